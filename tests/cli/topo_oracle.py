"""Machines at random, and what docs/topo.md says of their paths, worked out a second time in plain Python."""
import random

GTS = {1: (2.5, 0.8), 2: (5, 0.8), 3: (8, 128 / 130), 4: (16, 128 / 130), 5: (32, 128 / 130), 6: (64, 242 / 256)}
NVLINK = {1: 20e9, 2: 25e9, 3: 25e9, 4: 25e9, 5: 50e9}
MOST_NVLINKS = {1: 4, 2: 6, 3: 12, 4: 18, 5: 18}
PORTS = ("root_port", "switch_down", "bridge")


def rate(gen, width):
    gts, coding = GTS[gen]
    return width * gts * 1e9 / 8 * coding * 256 / 284


def make(seed):
    r = random.Random(seed)
    m = {"serin_machine": 1, "cpu": {"sockets": 2}, "nodes": [{"os_index": i, "socket": i // 2} for i in range(4)],
         "pci": [], "gpus": [], "pairs": []}
    bus = [0]

    def add(parent, kind, link=True, **more):
        bus[0] += 1
        d = {"address": f"0000:{bus[0]:02x}:00.0", "parent": parent, "kind": kind, "chipset": False, **more}
        if link:
            gen, width = r.randint(1, 6), r.choice([1, 4, 8, 16])
            idle = r.random() < 0.15
            d["link"] = {"gen": gen, "width": width, "max_gen": r.randint(gen, 6), "max_width": 16, "idle": idle}
        m["pci"].append(d)
        return d["address"]

    def below(parent, depth):
        for _ in range(r.randint(1, 2)):
            kind = r.random()
            if kind < 0.45 and len(m["gpus"]) < 6:
                m["gpus"].append({"pci": add(parent, "device"), "nvlink_version": r.choice([0, 2, 3, 4])})
                return
            if kind < 0.8 and depth < 3:
                chipset = r.random() < 0.2
                up = add(parent, "switch_up", chipset=chipset)
                for _ in range(r.randint(1, 3)):
                    below(add(up, "switch_down", acs_redirect=r.random() < 0.25, chipset=chipset), depth + 1)
                return

    for h in range(r.randint(1, 3)):
        m["pci"].append({"address": f"{h + 1:04x}:00", "parent": None, "kind": "host", "node": r.randint(0, 3), "chipset": False})
        for _ in range(r.randint(1, 3)):
            below(add(f"{h + 1:04x}:00", "root_port", acs_redirect=r.random() < 0.3, chipset=r.random() < 0.15), 0)
    for a in range(len(m["gpus"])):
        for b in range(a + 1, len(m["gpus"])):
            links = r.choice([0, 0, 0, 2, 12])
            same = m["gpus"][a]["nvlink_version"] and m["gpus"][a]["nvlink_version"] == m["gpus"][b]["nvlink_version"]
            denied = r.random() < 0.2
            m["pairs"].append({"a": a, "b": b, "nvlinks": links if same else 0, "read": not denied, "write": not denied})
    return m


class Oracle:
    def __init__(self, m):
        self.m = m
        self.at = {d["address"]: d for d in m["pci"]}

    def way(self, address):
        out = []
        while address:
            out.append(address)
            address = self.at[address]["parent"]
        return out

    def link(self, address):
        """Bytes per second above a device; None where there is no link."""
        d = self.at[address]
        if not d["parent"] or self.at[d["parent"]]["kind"] not in PORTS:
            return None
        own, up = d["link"], self.at[d["parent"]]["link"]
        gen = max(own["gen"], min(own["max_gen"], up["max_gen"])) if own["idle"] else own["gen"]
        return rate(gen, own["width"])

    def pair(self, a, b):
        return next(p for p in self.m["pairs"] if {p["a"], p["b"]} == {a, b})

    def links_used(self, a, b):
        """The devices whose links the bytes go up and down, and what is said of the way."""
        x, y = (self.way(self.m["gpus"][g]["pci"]) for g in (a, b))
        meet = next((d for d in x if d in y), None)
        top = lambda way: self.at[way[-1]]  # noqa: E731
        chipset = all(any(self.at[d]["chipset"] for d in way) for way in (x, y))
        if meet is None:
            sockets = {self.m["nodes"][top(way)["node"]]["socket"] for way in (x, y)}
            route = "socket" if len(sockets) == 1 else "sockets"
        elif self.at[meet]["kind"] == "host":
            route = "chipset" if chipset else "root"
        else:
            route = "chipset" if self.at[meet]["chipset"] else "switch"
        inner = [x[:x.index(meet)] if meet else x, y[:y.index(meet)] if meet else y]
        acs = any(self.at[d]["kind"] in PORTS and self.at[d].get("acs_redirect") for part in inner for d in part)
        staged = not self.pair(a, b)["read"]
        through = route not in ("switch", "chipset") or acs or staged
        up, down = (x, y) if through else inner
        real = lambda way: [d for d in way if self.link(d) is not None]  # noqa: E731
        return route, meet, acs, staged, through, real(up), real(down)

    def path(self, a, b):
        p = self.pair(a, b)
        if p["nvlinks"]:
            return {"route": "nvlink", "bytes_per_s": p["nvlinks"] * NVLINK[self.m["gpus"][a]["nvlink_version"]], "through_cpu": False,
                    "staged": False, "hops": 0, "meet": None}
        route, meet, acs, staged, through, up, down = self.links_used(a, b)
        return {"route": route, "bytes_per_s": min(self.link(d) for d in up + down), "through_cpu": through, "staged": staged,
                "hops": len(up) + len(down), "meet": meet}

    def exchange(self):
        n = len(self.m["gpus"])
        flows, shares = {}, []
        for a in range(n):
            peers = [b for b in range(n) if b != a and self.pair(a, b)["nvlinks"]]
            version = self.m["gpus"][a]["nvlink_version"]
            switched = sum(self.pair(a, b)["nvlinks"] for b in peers) > MOST_NVLINKS.get(version, 0)
            for b in range(n):
                if a == b:
                    continue
                if b in peers:
                    shares.append(self.pair(a, b)["nvlinks"] * NVLINK[version] / (len(peers) if switched else 1))
                    continue
                *_, up, down = self.links_used(a, b)
                for d in up:
                    flows["up", d] = flows.get(("up", d), 0) + 1
                for d in down:
                    flows["down", d] = flows.get(("down", d), 0) + 1
        shares += [self.link(d) / count for (_, d), count in flows.items()]
        return min(shares) * (n - 1) if n > 1 else None
