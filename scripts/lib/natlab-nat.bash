# What the routers of scripts/natlab do, which sources this: for each type of site the rules that make
# a NAT or a firewall of its router.

# What opens ports for hosts.
gateways=()

# Makes router $1 a NAT or firewall of type $2 with public address $3; $4 is whether hosts behind it
# reach each other at that address (hairpinning, RFC 4787 REQ-9).
load_rules() {
  local type=$2 public=$3 inbound='' outbound='' hairpin_in='' hairpin_out=''
  local input forward
  # What came in unasked is dropped before the kernel makes a flow of it. If it did, our host's
  # packet to that sender would find its port taken and leave from another one: that is `clash`.
  input='iifname wan meta l4proto udp ct state new drop'
  # `dnat` passes what the rules for inbound packets have let in. It is one bit of several, and
  # must be asked for as such.
  forward='iifname wan ct state new ct status & dnat == 0 drop'
  outbound="oifname wan snat ip to $public"
  case $type in
    open) input='' forward='' outbound='' ;;
    firewall4 | firewall6) outbound='' ;;
    full-cone)
      inbound="iifname wan ip daddr $public meta l4proto udp dnat ip to udp dport map @owner" ;;
    address-restricted)
      inbound="iifname wan ip daddr $public udp dport . ip saddr @contacted dnat ip to udp dport map @owner" ;;
    port-restricted | short-timeouts | gateway) ;;
    # Hashes, so that the port depends on the sender alone and not on where it sends; or on the
    # address that it sends to as well, but not on the port there.
    port-changing)
      change_port "jhash ip saddr . udp sport mod 2000 seed 0x77" 20000 2000 ;;
    address-dependent)
      change_port "jhash ip saddr . udp sport . ip daddr mod 4000 seed 0x77" 20000 4000 ;;
    # The next port for each flow, of any host.
    symmetric-sequential) change_port "numgen inc mod 4000" 40000 4000 ;;
    symmetric-block) change_port "" 20480 1024 ;;
    symmetric | dual-stack) change_port "" 1024 64512 ;;
    udp-443) forward="oifname wan meta l4proto udp udp dport != { 53, 443 } drop
    $forward" ;;
    udp-blocked) forward="oifname wan meta l4proto udp drop
    $forward" ;;
    clash) input='' ;;
    *) die "there is no NAT type $type" "--help lists them." ;;
  esac
  if [ "$4" = yes ] && [ -n "$outbound" ]; then
    hairpin_in="iifname lan ip daddr $public meta l4proto udp dnat ip to udp dport map @owner"
    hairpin_out="oifname lan ct status & dnat != 0 snat ip to $public"
  fi
  in_ns "$1" nft -f - <<END
table ip nat {
  # Which host sent from a port last, and to which addresses. These ports are kept, so it is also
  # the port outside. Learnt from all packets: chains of type nat see the first of a flow only.
  map owner {
    type inet_service : ipv4_addr . inet_service
    flags dynamic, timeout
    timeout 5m
    size 65536
  }
  set contacted {
    type inet_service . ipv4_addr
    flags dynamic, timeout
    timeout 5m
    size 65536
  }
  chain learn {
    type filter hook postrouting priority mangle
    oifname wan meta l4proto udp update @owner { udp sport : ip saddr . udp sport }
    oifname wan meta l4proto udp update @contacted { udp sport . ip daddr }
  }
  chain inbound {
    type nat hook prerouting priority dstnat
    $inbound
    $hairpin_in
  }
  # Rules of natlab-router, which come before those of the type.
  chain rebound {
  }
  chain outbound {
    type nat hook postrouting priority srcnat
    $hairpin_out
    oifname wan jump rebound
    $outbound
  }
}
table inet filter {
  chain input {
    type filter hook input priority filter
    $input
  }
  chain forward {
    type filter hook forward priority filter
    # Sent to an address that this router had once.
    iifname wan oifname wan drop
    $forward
  }
}
table inet count {
  # Chains of type nat see the first packet of a flow, and these of what nothing else dropped: each is
  # an entry in the table of connections.
  counter flows {
  }
  chain forwarded {
    type nat hook postrouting priority srcnat - 1
    fib saddr type != local meta l4proto udp counter name flows
  }
  chain taken {
    type nat hook input priority 99
    iifname wan meta l4proto udp counter name flows
  }
}
END
}

# Counts what the server relays. What is sent to it for that begins with these four bytes, after the
# eight of UDP's own header (PROTOCOL.md).
count_relayed() {
  in_ns server nft -f - <<END
table inet count {
  counter relayed {
  }
  counter by_tcp {
  }
  chain input {
    type filter hook input priority filter
    meta l4proto udp @th,64,32 0x30000000 counter name relayed
    meta l4proto tcp counter name by_tcp
  }
}
END
}

# Adds to the rules of load_rules one that has packets leave from one of $3 ports, the first of which
# is $2: that of number $1, or for each flow a random one.
change_port() {
  local number=$1 first=$2 count=$3 port ports=''
  local rule="oifname wan meta l4proto udp snat ip to $public :"
  if [ -z "$number" ]; then
    outbound="$rule $first-$((first + count - 1)) fully-random
    $outbound"
    return
  fi
  # A map, for numbers themselves would be ports with their bytes swapped. It must fit into what may be
  # sent to the kernel at once without privileges: some 4,000.
  for ((port = 0; port < count; port++)); do
    ports+="$port : $((first + port)), "
  done
  outbound="$rule $number map { ${ports%, } }
    $outbound"
}

# Has the router of site $1 open ports to hosts that ask for it, by PCP, NAT-PMP and UPnP.
open_gateway() {
  local site=$1 router=nat-$1
  local files=/run/lab/gateway-$1
  in_ns "$router" nft -f - <<END
table inet gateway {
  chain asked_for {
  }
  chain inbound {
    type nat hook prerouting priority dstnat
    jump mapped
  }
  chain mapped {
  }
  chain outbound {
    type nat hook postrouting priority srcnat
    jump kept
  }
  chain kept {
  }
}
END
  cat >"$files.conf" <<END
ext_ifname=wan
ext_ip=${nat4[$site]}
listening_ip=lan
enable_natpmp=yes
enable_upnp=yes
secure_mode=yes
system_uptime=yes
upnp_table_name=gateway
upnp_nat_table_name=gateway
upnp_forward_chain=asked_for
upnp_nat_chain=mapped
upnp_nat_postrouting_chain=kept
allow 1024-65535 192.168.1.0/24 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
END
  (exec nsenter --net="/run/netns/$router" -- miniupnpd -d -f "$files.conf" -P "$files.pid") \
    >"$files.log" 2>&1 &
  gateways+=($!)
}

close_gateways() {
  { [ ${#gateways[@]} -eq 0 ] || kill -KILL "${gateways[@]}" && wait "${gateways[@]}"; } 2>/dev/null || true
  gateways=()
}
