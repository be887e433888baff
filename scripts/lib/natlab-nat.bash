# What the routers of scripts/natlab do, which sources this: for each type of site the rules that make
# a NAT or a firewall of its router.

# Makes router $1 a NAT or firewall of type $2 with public address $3; $4 is whether hosts behind it
# reach each other at that address (hairpinning, RFC 4787 REQ-9).
load_rules() {
  local type=$2 public=$3 inbound='' outbound='' hairpin_in='' hairpin_out=''
  local input forward port ports=''
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
    port-restricted | short-timeouts | double-nat) ;;
    # A hash, so that the port depends on the sender alone and not on where it sends.
    port-changing)
      for port in {0..1999}; do
        ports+="$port : $((20000 + port)), "
      done
      outbound="oifname wan meta l4proto udp snat ip to $public : \
jhash ip saddr . udp sport mod 2000 seed 0x77 map { ${ports%, } }
    $outbound" ;;
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
END
}
