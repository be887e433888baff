"""Options that several benches have in common."""

import os

import lab


def add_network(parser):
    """What `network` reads, less what a scenario says."""
    add = parser.add_argument
    add("--rtt", type=float, dest="rtt_ms", metavar="MS", help="between any two")
    add("--loss", type=float, dest="loss_percent", metavar="PERCENT", help="of all packets, each way")
    add("--queue", type=float, default=50, metavar="MS", help="what a full link holds [50]")
    add("--congestion", metavar="NAME", help="what TCP goes by [what the kernel begins with]")
    where = "target/release/examples/switch"
    add("--switch", default=f"{target()}/release/examples/switch", metavar="FILE", help=f"for --rtt and --loss [{where}]")


def network(options, links, seeds, rtt_ms=None, loss_percent=None):
    """The setting of a lab; errors where this machine lacks something for it."""
    rtt_ms, loss_percent = options.rtt_ms or rtt_ms or 0.0, options.loss_percent or loss_percent or 0.0
    program = os.path.abspath(options.switch)
    if (rtt_ms or loss_percent) and not os.access(program, os.X_OK):
        hint = "cargo build --release --package warren-net --example switch, or name it with --switch."
        raise lab.Cannot(f"there is no program {program}, for a delay", hint)
    return lab.Setting(links, seeds, options.queue, rtt_ms, loss_percent, options.congestion, program)


def target():
    project = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../..")
    return os.path.abspath(os.environ.get("CARGO_TARGET_DIR", os.path.join(project, "target")))
