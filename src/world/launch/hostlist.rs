//! Slurm's lists of hosts: `node[003-010,12]`, `login,a[1-2]-ib[0-1]`.

/// The first host of a list. Ranges stand in brackets, of which a name may have several, and keep
/// their zeros. `None` if the list is empty or has no such form.
pub(super) fn first_host(list: &str) -> Option<String> {
    let mut host = String::new();
    let mut rest = list.trim();
    loop {
        let plain = rest.find([',', '[', ']']).unwrap_or(rest.len());
        host.push_str(&rest[..plain]);
        let Some(opened) = rest[plain..].strip_prefix('[') else {
            let ended = !rest[plain..].starts_with(']');
            return (ended && !host.is_empty() && !host.contains(char::is_whitespace)).then_some(host);
        };
        let (ranges, after) = opened.split_once(']')?;
        let lowest = ranges.split([',', '-']).next()?;
        if lowest.is_empty() || !ranges.chars().all(|c| c.is_ascii_alphanumeric() || ",-".contains(c)) {
            return None;
        }
        host.push_str(lowest);
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_host_of_a_list_is_read() {
        for (list, first) in [
            ("node003", "node003"),
            ("node[003,005]", "node003"),
            ("node[003-010,12]", "node003"),
            ("node[0009-0010]", "node0009"),
            ("node[12,003-010]", "node12"),
            ("a1,b[2-3]", "a1"),
            ("b[2-3],a1", "b2"),
            (" gpu-a-7.cluster.example,gpu-b-1 ", "gpu-a-7.cluster.example"),
            ("rack[1-2]node[03-04]", "rack1node03"),
            ("node[08-09]-ib0,node1", "node08-ib0"),
            ("r[1,3]c[2-4]n[000-127],login", "r1c2n000"),
            ("[10-12]", "10"),
            ("bgp[000x133]", "bgp000x133"),
        ] {
            assert_eq!(first_host(list).as_deref(), Some(first), "{list}");
        }
    }

    #[test]
    fn what_is_no_list_has_no_first_host() {
        for list in
            ["", " ", ",a1", "node[003", "node]003[", "node[]", "node[,4]", "node[-4]", "n[1-[2-3]]", "a b"]
        {
            assert_eq!(first_host(list), None, "{list}");
        }
    }
}
