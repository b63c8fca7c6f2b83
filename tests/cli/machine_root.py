"""A root folder with the files by which a kernel shows a machine: PCI devices with their configuration space, IOMMU
groups, slots, the firmware's tables. Tests of discovery make machines of it, also such as no kernel would show."""
import struct

GTS = {1: "2.5", 2: "5.0", 3: "8.0", 4: "16.0", 5: "32.0"}
ENDPOINT, ROOT_PORT, SWITCH_UP, SWITCH_DOWN = 0, 4, 5, 6


def config_space(port_type=None, bridge=False, secondary=0, gen=0, width=0, acs=None, size=4096):
    """The bytes of a device's configuration space: a header, PCI Express where there is a port_type, ACS with that
    control register. Ordinary users see the first 64."""
    b = bytearray(4096)
    b[0x0e] = 1 if bridge else 0
    b[0x19] = secondary
    if port_type is not None:
        b[0x06] = 1 << 4
        b[0x34] = 0x50
        b[0x50:0x52] = bytes([0x01, 0x60])  # power management comes first
        struct.pack_into("<BBH", b, 0x60, 0x10, 0, 2 | port_type << 4)
        struct.pack_into("<I", b, 0x6c, gen | width << 4)
        struct.pack_into("<H", b, 0x72, gen | width << 4)
    struct.pack_into("<I", b, 0x100, 0x0001 | 1 << 16 | (0x140 << 20 if acs is not None else 0))  # error reporting
    if acs is not None:
        struct.pack_into("<IHH", b, 0x140, 0x000d | 1 << 16, 0x1f, acs)
    return bytes(b[:size])


class Root:
    def __init__(self, path, as_root=True):
        self.path, self.as_root = path, as_root
        (path / "sys/bus/pci/devices").mkdir(parents=True)
        self.write("proc/cpuinfo", "processor : 0\nflags : fpu sse2 avx2\n")

    def write(self, name, content):
        p = self.path / name
        p.parent.mkdir(parents=True, exist_ok=True)
        p.write_bytes(content if isinstance(content, bytes) else content.encode())
        return p

    def device(self, way, made_by, number, klass, link=None, can=None, config=None, bar=0, numa=0, group=None, **files):
        """way: "pci0000:00/0000:00:01.0/0000:01:00.0"; link and can: (generation, lanes)."""
        address = way.rsplit("/", 1)[1]
        folder = f"sys/devices/{way}"
        put = lambda name, text: self.write(f"{folder}/{name}", text)  # noqa: E731
        put("vendor", f"0x{made_by:04x}\n")
        put("device", f"0x{number:04x}\n")
        put("class", f"0x{klass:06x}\n")
        put("numa_node", f"{numa}\n")
        put("resource", f"0x{1 << 32:016x} 0x{(1 << 32) + bar - 1:016x} 0x{0x14220c:016x}\n" if bar else "0x0 0x0 0x0\n")
        if config is not None:
            put("config", config if self.as_root else config[:64])
        if link:
            put("current_link_speed", f"{GTS[link[0]]} GT/s PCIe\n")
            put("current_link_width", f"{link[1]}\n")
        if can:
            put("max_link_speed", f"{GTS[can[0]]} GT/s PCIe\n")
            put("max_link_width", f"{can[1]}\n")
        if group is not None:
            self.write(f"sys/kernel/iommu_groups/{group}/type", files.pop("group_type", "DMA-FQ") + "\n")
            (self.path / folder / "iommu_group").symlink_to(f"../../../kernel/iommu_groups/{group}")
        for name, text in files.items():
            put(name, text)
        self.link(address, f"../../../devices/{way}")

    def link(self, address, target):
        (self.path / "sys/bus/pci/devices" / address).symlink_to(target)

    def slot(self, name, address):
        self.write(f"sys/bus/pci/slots/{name}/address", address + "\n")


def four_v100(path, as_root=True, acs=0x1d, gen=3):
    """Four cards behind a switch, whose ports redirect."""
    r = Root(path, as_root)
    root, up = "pci0000:00/0000:00:02.0", "pci0000:00/0000:00:02.0/0000:03:00.0"
    r.device(root, 0x8086, 0x6f04, 0x060400, (3, 16), (3, 16), config_space(ROOT_PORT, True, 3, 3, 16, acs=0))
    r.device(up, 0x10b5, 0x8796, 0x060400, (3, 16), (3, 16), config_space(SWITCH_UP, True, 4, 3, 16))
    for i in range(4):
        port = f"{up}/0000:04:{4 * i:02x}.0"
        r.device(port, 0x10b5, 0x8796, 0x060400, (3, 16), (3, 16), config_space(SWITCH_DOWN, True, 5 + i, 3, 16, acs=acs))
        r.device(f"{port}/0000:{5 + i:02x}:00.0", 0x10de, 0x1db4, 0x030200, (gen, 16), (3, 16), config_space(ENDPOINT, gen=3, width=16),
                 bar=16 << 30)
        r.slot(f"GPU{i + 1}", f"0000:{5 + i:02x}:00")
    r.device("pci0000:00/0000:00:1c.0", 0x8086, 0x8d10, 0x060400, (1, 1), (2, 1), config_space(ROOT_PORT, True, 9, 2, 1, acs=0))
    r.device("pci0000:00/0000:00:1c.0/0000:09:00.0", 0x1a03, 0x2000, 0x030000, (1, 1), (2, 1), config_space(ENDPOINT, gen=2, width=1))
    r.device("pci0000:00/0000:00:03.0", 0x8086, 0x6f08, 0x060400, None, (3, 16), config_space(ROOT_PORT, True, 0x0a, 3, 16, acs=0),
             current_link_speed="2.5 GT/s PCIe\n", current_link_width="0\n")
    r.slot("SLOT1", "0000:0a:00")
    return r


# ---- SMBIOS ----

def structure(kind, body, *texts):
    """A structure with its texts; body holds what follows the head of four bytes."""
    return bytes([kind, 4 + len(body), 0, 0]) + body + b"".join(t.encode() + b"\0" for t in texts) + (b"\0" if texts else b"\0\0")


def module(locator, bank, mib=32768, kind=0x1a, rated=3200, configured=2933):
    body = struct.pack("<HHHHHBBBBBHHBBBBBIH", 0, 0xfffe, 72, 64, min(mib, 0x7fff) if mib else 0, 9, 0, 1, 2, kind, 0x80, rated, 0, 0, 0, 0, 1, 0, configured)
    return structure(17, body, locator, bank)


def slot(name, bus, device, domain=0):
    return structure(9, struct.pack("<BBBBBHBBHBB", 1, 0xa5, 0x0d, 4, 4, 1, 0, 0, domain, bus, device << 3), name)


END = structure(127, b"")
