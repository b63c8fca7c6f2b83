#!/usr/bin/env python3
"""Writes tests/data/machines/*.json: machines that tests, and people who try `serin topo --from`, look at.

usage: make_fixtures.py [--check]      (--check: says which files differ, writes nothing)

Made up from what such machines are known to be, not recorded; addresses follow the habits of their kind. Each has the
fault that its name or comment says, and tests/unit/test_hardware.c says which problems are found in it and which not.
"""
import argparse
import json
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "data/machines"
GIB = 1 << 30

CARDS = {  # device id, name, GiB, GiB of BAR1, compute capability, multiprocessors, PCIe generation, NVLink, watts
    "v100": ("1db4", "Tesla V100-PCIE-16GB", 16, 16, (7, 0), 80, 3, 0, 250),
    "3090": ("2204", "NVIDIA GeForce RTX 3090", 24, 32, (8, 6), 82, 4, 0, 350),
    "4090": ("2684", "NVIDIA GeForce RTX 4090", 24, 32, (8, 9), 128, 4, 0, 450),
    "a100": ("20b2", "NVIDIA A100-SXM4-80GB", 80, 128, (8, 0), 108, 4, 3, 400),
}


class Machine:
    def __init__(self, name, board, cpu, iommu="off"):
        self.pci, self.gpus, self.pairs, self.nodes = [], [], [], []
        self.head = {"serin_machine": 1, "name": name, "board": board, "os": "Linux 6.1.0", "taken_us": 1795392000000000,
                     "virtual": False, "iommu": iommu, "cpu": cpu}

    def node(self, gib, memory, mts, channels, most, cpus, socket=None):
        at = len(self.nodes)
        self.nodes.append({"os_index": at, "socket": at if socket is None else socket, "bytes": gib * GIB, "cpus": cpus,
                           "channels": channels, "channels_most": most, "mts": mts, "memory": memory})

    def add(self, address, parent, kind, ids, klass, link=None, node=0, **more):
        vendor, device = ids.split(":")
        entry = {"address": address, "parent": parent, "kind": kind, "vendor": vendor, "device": device, "class": klass,
                 "node": node, "chipset": False, **more}
        if link:
            gen, width, max_gen, max_width = link
            entry["link"] = {"gen": gen, "width": width, "max_gen": max_gen, "max_width": max_width}
        self.pci.append(entry)
        return address

    def host(self, address, ids="1022:1480", **more):
        return self.add(address, None, "host", ids, "060000", **more)

    def port(self, address, parent, ids, link, kind="root_port", acs=False, **more):
        return self.add(address, parent, kind, ids, "060400", link, acs_redirect=acs, **more)

    def gpu(self, address, parent, card, width=16, gen=None, max_width=16, bar=None, **more):
        device, name, gib, bar1, cc, sm, max_gen, nvlink, watts = CARDS[card]
        bar1 = bar if bar is not None else bar1 * GIB
        self.add(address, parent, "device", f"10de:{device}", "030200", (gen or max_gen, width, max_gen, max_width),
                 bar_bytes=bar1, **more)
        self.gpus.append({"pci": address, "name": name, "uuid": f"GPU-{len(self.gpus):08x}-0000-4000-8000-000000000000",
                          "driver": "550.54.14", "bytes": gib * GIB, "bar1_bytes": bar1, "cc_major": cc[0], "cc_minor": cc[1],
                          "sm": sm, "nvlink_version": nvlink, "power_limit_w": watts})

    def pair(self, a, b, granted=True, nvlinks=0, why_not=""):
        self.pairs.append({"a": a, "b": b, "nvlinks": nvlinks, "read": granted, "write": granted, "atomics": bool(nvlinks),
                           "why_not": why_not})

    def all_pairs(self, **how):
        for a in range(len(self.gpus)):
            for b in range(a + 1, len(self.gpus)):
                self.pair(a, b, **how)

    def text(self):
        def lines(name, items):
            body = ",\n".join("  " + json.dumps(i) for i in items)
            return f'"{name}": [\n{body}\n]' if items else f'"{name}": []'
        head = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in self.head.items())
        rest = ",\n".join(lines(k, getattr(self, k)) for k in ("nodes", "pci", "gpus", "pairs"))
        return "{" + head + ",\n" + rest + "\n}\n"


def cpu(name, cores, isa, sockets=1, l3=32, n_l3=1, l2=512):
    return {"name": name, "isa": isa, "sockets": sockets, "cores": cores, "threads": 2 * cores, "l1d_bytes": 32 << 10,
            "l2_bytes": l2 << 10, "l3_bytes": l3 << 20, "n_l2": cores, "n_l3": n_l3}


def one_gpu():
    """Nothing is wrong."""
    m = Machine("one GPU", "desktop board", cpu("AMD Ryzen 9 7950X 16-Core Processor", 16, "avx512vnni", l3=32, n_l3=2, l2=1024))
    m.node(64, "DDR5", 5200, 2, 2, "0-31")
    m.host("0000:00")
    m.port("0000:00:01.1", "0000:00", "1022:14db", (4, 16, 5, 16), slot="PCIEX16_1")
    m.gpu("0000:01:00.0", "0000:00:01.1", "4090")
    m.port("0000:00:01.2", "0000:00", "1022:14db", (4, 4, 5, 4), slot="M2_1")
    m.add("0000:02:00.0", "0000:00:01.2", "device", "144d:a80c", "010802", (4, 4, 4, 4), bar_bytes=16384, name="NVMe disk")
    return m


def two_on_one_root():
    """A pair that meets in the processor; one of the cards is down-trained to x8, and its window is small."""
    m = Machine("two GPUs on one root", "workstation board", cpu("AMD Ryzen Threadripper PRO 3955WX 16-Cores", 16, "avx2", n_l3=4),
                iommu="on")
    m.node(128, "DDR4", 3200, 4, 8, "0-31")
    m.host("0000:00")
    m.port("0000:00:01.1", "0000:00", "1022:1483", (4, 16, 4, 16), slot="PCIE1", iommu_group="1")
    m.gpu("0000:01:00.0", "0000:00:01.1", "3090", iommu_group="14")
    m.port("0000:00:03.1", "0000:00", "1022:1483", (4, 8, 4, 16), slot="PCIE3", iommu_group="3")
    m.gpu("0000:02:00.0", "0000:00:03.1", "3090", width=8, bar=256 << 20, iommu_group="15")
    m.all_pairs(granted=False, why_not="not supported by the GPU")
    return m


def four_v100():
    """A switch that could pass traffic between the cards on, and is told to send it up to the processor."""
    m = Machine("four V100 behind one switch", "X10 server board",
                cpu("Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz", 14, "avx2", l3=35, l2=256))
    m.node(256, "DDR4", 2400, 4, 4, "0-27")
    m.host("0000:00", "8086:6f00")
    m.port("0000:00:02.0", "0000:00", "8086:6f04", (3, 16, 3, 16), slot="SLOT2")
    m.port("0000:03:00.0", "0000:00:02.0", "10b5:8796", (3, 16, 3, 16), kind="switch_up", name="PLX PEX 8796")
    for i in range(4):
        port = m.port(f"0000:04:{4 * i:02x}.0", "0000:03:00.0", "10b5:8796", (3, 16, 3, 16), kind="switch_down", acs=True)
        m.gpu(f"0000:{5 + i:02x}:00.0", port, "v100", slot=f"GPU{i + 1}")
    m.port("0000:00:03.0", "0000:00", "8086:6f08", (3, 4, 3, 16), slot="SLOT1")
    m.add("0000:09:00.0", "0000:00:03.0", "device", "144d:a808", "010802", (3, 4, 3, 4), bar_bytes=16384, name="NVMe disk")
    m.all_pairs()
    return m


def two_switches():
    """Two cards below a switch on each socket, with places left below the first for all of them."""
    m = Machine("two switches on two sockets", "dual-socket server board",
                cpu("Intel(R) Xeon(R) Gold 6230 CPU @ 2.10GHz", 40, "avx512vnni", sockets=2, l3=28, n_l3=2, l2=1024))
    m.node(192, "DDR4", 2933, 6, 6, "0-19,40-59")
    m.node(192, "DDR4", 2933, 6, 6, "20-39,60-79")
    for socket, (host, bus) in enumerate((("0000:3a", 0x3b), ("0000:ae", 0xaf))):
        m.host(host, "8086:2030", node=socket)
        root = m.port(f"{host}:00.0", host, "8086:2030", (3, 16, 3, 16), node=socket)
        up = m.port(f"0000:{bus:02x}:00.0", root, "10b5:8796", (3, 16, 3, 16), kind="switch_up", node=socket, name="PLX PEX 8796")
        for i in range(4):
            used = i < 2
            link = (3, 16, 3, 16) if used else (0, 0, 3, 16)
            port = m.port(f"0000:{bus + 1:02x}:{4 * i:02x}.0", up, "10b5:8796", link, kind="switch_down", node=socket,
                          slot=f"CPU{socket + 1} SLOT{i + 1}")
            if used:
                m.gpu(f"0000:{bus + 2 + i:02x}:00.0", port, "v100", node=socket)
    m.all_pairs()
    return m


def consumer_board():
    """The second card hangs on the chipset by four lanes, though a slot of the processor is free."""
    m = Machine("consumer board with one GPU on its chipset", "X570 board", cpu("AMD Ryzen 9 5950X 16-Core Processor", 16, "avx2", n_l3=2))
    m.node(64, "DDR4", 3600, 2, 2, "0-31")
    m.host("0000:00")
    m.port("0000:00:01.1", "0000:00", "1022:1483", (4, 4, 4, 4), slot="M2_1")
    m.add("0000:01:00.0", "0000:00:01.1", "device", "144d:a80a", "010802", (4, 4, 4, 4), bar_bytes=16384, name="NVMe disk")
    m.port("0000:00:01.2", "0000:00", "1022:1483", (4, 4, 4, 8))
    m.port("0000:02:00.0", "0000:00:01.2", "1022:57ad", (4, 4, 4, 4), kind="switch_up", chipset=True, name="AMD X570 chipset")
    m.port("0000:03:05.0", "0000:02:00.0", "1022:57a3", (4, 1, 4, 1), kind="switch_down", chipset=True)
    m.add("0000:04:00.0", "0000:03:05.0", "device", "8086:15f3", "020000", (2, 1, 2, 1), chipset=True, bar_bytes=1 << 20, name="Intel I225-V")
    m.port("0000:03:08.0", "0000:02:00.0", "1022:57a3", (4, 4, 4, 4), kind="switch_down", chipset=True, slot="PCIEX16_3")
    m.gpu("0000:05:00.0", "0000:03:08.0", "3090", width=4, chipset=True)
    m.port("0000:00:03.1", "0000:00", "1022:1483", (4, 16, 4, 16), slot="PCIEX16_1")
    m.gpu("0000:0a:00.0", "0000:00:03.1", "3090")
    m.port("0000:00:03.2", "0000:00", "1022:1483", (0, 0, 4, 8), slot="PCIEX16_2")
    m.all_pairs(granted=None)
    return m


def eight_nvlink():
    """Nothing is wrong between the GPUs: every pair has the twelve links of its GPU, through the switches of NVLink."""
    m = Machine("eight A100 with NVLink", "HGX board", cpu("AMD EPYC 7742 64-Core Processor", 128, "avx2", sockets=2, l3=16, n_l3=32),
                iommu="pass")
    m.node(1024, "DDR4", 3200, 8, 8, "0-63,128-191")
    m.node(1024, "DDR4", 3200, 8, 8, "64-127,192-255")
    for k, base in enumerate((0x00, 0x40, 0x80, 0xc0)):
        socket = k // 2
        host = m.host(f"0000:{base:02x}", node=socket)
        root = m.port(f"{host}:01.1", host, "1022:1483", (4, 16, 4, 16), node=socket)
        up = m.port(f"0000:{base + 1:02x}:00.0", root, "1000:c010", (4, 16, 4, 16), kind="switch_up", node=socket)
        for i in range(2):
            down = m.port(f"0000:{base + 2:02x}:{4 * i:02x}.0", up, "1000:c010", (4, 16, 4, 16), kind="switch_down", node=socket)
            m.gpu(f"0000:{base + 3 + i:02x}:00.0", down, "a100", node=socket)
    m.all_pairs(nvlinks=12)
    return m


FIXTURES = {"one-gpu": one_gpu, "two-on-one-root": two_on_one_root, "four-v100": four_v100, "two-switches": two_switches,
            "consumer-board": consumer_board, "eight-nvlink": eight_nvlink}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="say which files differ and write nothing")
    args = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    differ = []
    for name, make in FIXTURES.items():
        path, text = FOLDER / f"{name}.json", make().text()
        if not path.exists() or path.read_text() != text:
            differ.append(path.name)
            if not args.check:
                path.write_text(text)
    print("\n".join(differ) or "all as made")
    return 1 if args.check and differ else 0


if __name__ == "__main__":
    sys.exit(main())
