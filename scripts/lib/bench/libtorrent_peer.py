"""A BitTorrent peer on libtorrent's Python binding.

    libtorrent_peer.py TORRENT FOLDER ADDRESS:PORT [tuned]

Says `ready`, begins with the line `add`, says `complete` when it has the file and has written it, and
then goes on serving. Its settings are libtorrent's own, without DHT, local discovery and port mapping;
`tuned` is TCP only, with deep queues and nobody choked.
"""

import sys
import time

import libtorrent

TUNED = {
    "aio_threads": 4,
    "allow_multiple_connections_per_ip": True,
    "connections_limit": 500,
    "enable_incoming_utp": False,
    "enable_outgoing_utp": False,
    "hashing_threads": 2,
    "max_allowed_in_request_queue": 4000,
    "max_out_request_queue": 2000,
    "max_queued_disk_bytes": 16 << 20,
    "mixed_mode_algorithm": 0,
    "recv_socket_buffer_size": 4 << 20,
    "request_queue_time": 5,
    "send_buffer_low_watermark": 512 << 10,
    "send_buffer_watermark": 4 << 20,
    "send_buffer_watermark_factor": 150,
    "send_socket_buffer_size": 4 << 20,
    "suggest_mode": 0,
    "unchoke_slots_limit": -1,
}

categories = libtorrent.alert.category_t


def main():
    torrent, folder, listen, *variants = sys.argv[1:]
    settings = {
        "alert_mask": categories.status_notification | categories.error_notification | categories.storage_notification,
        "enable_dht": False,
        "enable_lsd": False,
        "enable_natpmp": False,
        "enable_upnp": False,
        "listen_interfaces": listen,
        **(TUNED if "tuned" in variants else {}),
    }
    session = libtorrent.session(settings)
    print("ready", flush=True)
    sys.stdin.readline()
    what = libtorrent.add_torrent_params()
    what.ti, what.save_path = libtorrent.torrent_info(torrent), folder
    handle = session.add_torrent(what)
    is_flushing = False
    while True:
        session.wait_for_alert(20)
        kinds = [type(alert).__name__ for alert in session.pop_alerts()]
        if not is_flushing and handle.status().is_seeding:
            handle.flush_cache()
            is_flushing = True
        if is_flushing and "cache_flushed_alert" in kinds:
            break
    print("complete", flush=True)
    while True:
        session.pop_alerts()
        time.sleep(1)


main()
