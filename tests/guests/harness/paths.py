"""Where the programs are that the modules here run."""
import pathlib

TOOLS = pathlib.Path(__file__).resolve().parent.parent
ROOT = TOOLS.parent.parent
WEIR, GUEST, OVS, VIRTIO_USER = (TOOLS / name for name in ("weir", "guest", "ovs", "virtio-user"))
RELEASE = ROOT / "target/release"
