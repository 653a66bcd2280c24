// What the files of the shim share. No C++ exception may cross into Rust: each function returns nullptr when it worked,
// else a message that the caller frees with px_free.
#pragma once
#include <ATen/ATen.h>
#include <cstring>

template <typename F> char* caught(F&& body) {
  try {
    body();
    return nullptr;
  } catch (const c10::Error& e) {
    return strdup(e.what_without_backtrace());
  } catch (const std::exception& e) {
    return strdup(e.what());
  } catch (...) {
    return strdup("unknown C++ exception");
  }
}
