//! One address shape for IPv4, IPv6 and v4-mapped: sixteen bytes in network order.

/// An IP address as four words in network byte order; IPv4 is held v4-mapped (`::ffff:a.b.c.d`), so both families are judged alike.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Addr {
    pub words: [u32; 4],
}

impl Addr {
    pub const UNSPECIFIED: Self = Self { words: [0; 4] };

    /// From a word in network byte order, as `user_ip4` holds it.
    #[inline(always)]
    pub const fn from_v4_be(word: u32) -> Self {
        Self { words: [0, 0, 0xffff_u32.to_be(), word] }
    }

    /// From four words in network byte order, as `user_ip6` holds them.
    #[inline(always)]
    pub const fn from_v6_be(words: [u32; 4]) -> Self {
        Self { words }
    }

    #[inline(always)]
    pub const fn from_octets(o: [u8; 16]) -> Self {
        Self {
            words: [
                u32::from_ne_bytes([o[0], o[1], o[2], o[3]]),
                u32::from_ne_bytes([o[4], o[5], o[6], o[7]]),
                u32::from_ne_bytes([o[8], o[9], o[10], o[11]]),
                u32::from_ne_bytes([o[12], o[13], o[14], o[15]]),
            ],
        }
    }

    pub const fn octets(&self) -> [u8; 16] {
        let [a, b, c, d] = [self.words[0].to_ne_bytes(), self.words[1].to_ne_bytes(), self.words[2].to_ne_bytes(), self.words[3].to_ne_bytes()];
        [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]]
    }

    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.words[0] == 0 && self.words[1] == 0 && self.words[2] == 0xffff_u32.to_be()
    }

    /// 127.0.0.0/8, its mapped form, or `::1`.
    #[inline(always)]
    pub const fn is_loopback(&self) -> bool {
        if self.is_v4() {
            u32::from_be(self.words[3]) >> 24 == 127
        } else {
            self.words[0] == 0 && self.words[1] == 0 && self.words[2] == 0 && self.words[3] == 1_u32.to_be()
        }
    }

    /// 224.0.0.0/4, the limited broadcast, or ff00::/8.
    #[inline(always)]
    pub const fn is_multicast(&self) -> bool {
        let first = if self.is_v4() { u32::from_be(self.words[3]) } else { u32::from_be(self.words[0]) };
        if self.is_v4() { first >> 28 == 14 || first == u32::MAX } else { first >> 24 == 0xff }
    }

    /// ff02::/16, which no router passes on.
    #[inline(always)]
    pub const fn is_link_multicast(&self) -> bool {
        u32::from_be(self.words[0]) >> 16 == 0xff02
    }

    /// 0.0.0.0, its mapped form, or `::`: the kernel takes a connect to it as loopback.
    #[inline(always)]
    pub const fn is_unspecified(&self) -> bool {
        self.words[3] == 0 && self.words[0] == 0 && self.words[1] == 0 && (self.words[2] == 0 || self.is_v4())
    }
}

#[cfg(feature = "user")]
impl From<core::net::IpAddr> for Addr {
    fn from(ip: core::net::IpAddr) -> Self {
        match ip {
            core::net::IpAddr::V4(v4) => Self::from_octets(v4.to_ipv6_mapped().octets()),
            core::net::IpAddr::V6(v6) => Self::from_octets(v6.octets()),
        }
    }
}

#[cfg(feature = "user")]
impl From<Addr> for core::net::IpAddr {
    /// The canonical form: a mapped address comes back as IPv4.
    fn from(addr: Addr) -> Self {
        core::net::IpAddr::V6(core::net::Ipv6Addr::from(addr.octets())).to_canonical()
    }
}
