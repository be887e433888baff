//! Where packets go that no other route is for: the router, as /proc/net/route tells everybody.

use std::net::Ipv4Addr;

/// Flags of a route, as in `linux/route.h`.
const RTF_UP: u16 = 0x0001;
const RTF_GATEWAY: u16 = 0x0002;

/// The IPv4 default route of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DefaultRoute {
    /// The interface it leads out of.
    pub(crate) interface: String,
    /// The router. There is none on a point-to-point link, such as most VPNs are.
    pub(crate) gateway: Option<Ipv4Addr>,
    metric: u32,
}

/// The default route of lowest metric in a text like /proc/net/route.
///
/// Its first line names the columns: Iface Destination Gateway Flags RefCnt Use Metric Mask and
/// others. Addresses are in hex, their four bytes read as one number in this machine's own order.
pub(crate) fn default_route(text: &str) -> Option<DefaultRoute> {
    let routes = text.lines().skip(1).filter_map(default_route_of_line);
    routes.min_by_key(|route| route.metric)
}

fn default_route_of_line(line: &str) -> Option<DefaultRoute> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let [
        interface,
        destination,
        gateway,
        flags,
        _,
        _,
        metric,
        mask,
        ..,
    ] = fields[..]
    else {
        return None;
    };
    let address = |hex: &str| {
        let bits = u32::from_str_radix(hex, 16).ok()?;
        Some(Ipv4Addr::from(bits.to_ne_bytes()))
    };
    let flags = u16::from_str_radix(flags, 16).ok()?;
    let everywhere = Some(Ipv4Addr::UNSPECIFIED);
    let is_default = address(destination) == everywhere && address(mask) == everywhere;
    if !is_default || flags & RTF_UP == 0 {
        return None;
    }
    let gateway = address(gateway)?;
    let has_gateway = flags & RTF_GATEWAY != 0 && !gateway.is_unspecified();
    Some(DefaultRoute {
        interface: interface.to_owned(),
        gateway: has_gateway.then_some(gateway),
        metric: metric.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str =
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";

    #[test]
    fn the_router_is_the_gateway_of_the_default_route_with_the_lowest_metric() {
        let text = format!(
            "{HEADER}\
             wlan0\t{any}\t{wlan}\t0003\t0\t0\t600\t{any}\t0\t0\t0\n\
             eth0\t{any}\t{eth}\t0003\t0\t0\t100\t{any}\t0\t0\t0\n\
             eth0\t{net}\t{any}\t0001\t0\t0\t100\t{mask}\t0\t0\t0\n",
            any = hex("0.0.0.0"),
            wlan = hex("192.168.2.1"),
            eth = hex("192.168.1.1"),
            net = hex("192.168.1.0"),
            mask = hex("255.255.255.0"),
        );
        let found = default_route(&text).unwrap();
        assert_eq!(found.interface, "eth0");
        assert_eq!(found.gateway, Some("192.168.1.1".parse().unwrap()));
    }

    #[test]
    fn a_tunnel_leads_out_and_has_no_router() {
        let any = hex("0.0.0.0");
        let text = format!("{HEADER}tun0\t{any}\t{any}\t0001\t0\t0\t0\t{any}\t0\t0\t0\n");
        let found = default_route(&text).unwrap();
        assert_eq!((&found.interface[..], found.gateway), ("tun0", None));
    }

    #[test]
    fn without_a_default_route_there_is_none() {
        let (any, half, gateway) = (hex("0.0.0.0"), hex("128.0.0.0"), hex("10.8.0.1"));
        for rest in [
            String::new(),
            // Half of everything, as some VPNs say it.
            format!("tun0\t{any}\t{gateway}\t0003\t0\t0\t0\t{half}\t0\t0\t0\n"),
            // Down.
            format!("eth0\t{any}\t{gateway}\t0002\t0\t0\t0\t{any}\t0\t0\t0\n"),
            "eth0\tnonsense\n\n*\t*\t*\t*\t*\t*\t*\t*\n".to_owned(),
        ] {
            assert_eq!(default_route(&format!("{HEADER}{rest}")), None, "{rest}");
        }
        assert_eq!(default_route(""), None);
    }

    /// As the kernel writes it on this machine.
    fn hex(ip: &str) -> String {
        let ip: Ipv4Addr = ip.parse().unwrap();
        format!("{:08X}", u32::from_ne_bytes(ip.octets()))
    }
}
