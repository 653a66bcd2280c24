// Shared by the files of the shim. No C++ exception may reach Rust: each function returns nullptr
// on success, otherwise a message that the caller frees with px_free.
#pragma once
#include <ATen/ATen.h>
#include <atomic>
#include <cstring>

// Whether libtorch's CUDA library is loaded. A CUDA query before that makes libtorch keep its stub
// for the rest of the process.
extern std::atomic<bool> cuda_is_loaded;

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
