"""The arithmetic of `serin advise` as a spreadsheet would have it, from the words of docs/advise.md alone: over lists of
calls and dicts of the two files, without a look at the program's code."""
import decimal
import math

MONTH_DAYS = 365.25 / 12
MONTH_S = MONTH_DAYS * 86400
KINDS = ("input", "cached_read", "cached_write", "output")


def pair(x):
    return tuple(x) if isinstance(x, (list, tuple)) else (x, x)


def mid(x):
    return sum(pair(x)) / 2


def rank(values, q):
    return sorted(values)[max(math.ceil(q * len(values)), 1) - 1]


# ---- facts of the traffic ----

def windows(begins, start, width):
    counts = {}
    for b in begins:
        counts[int((b - start) / width)] = counts.get(int((b - start) / width), 0) + 1
    return list(counts.values())


def facts(calls, everything, calls_per_day=None):
    """calls: dicts with begun_us (0: none), input, cached, output, queue, ttft, itl, total. everything: all routes' calls."""
    n = len(calls)
    m = {"n": n, "input": sum(c["input"] for c in calls) / n, "cached": sum(c["cached"] for c in calls) / n,
         "output": sum(c["output"] for c in calls) / n, "calls": calls, "burst": 1, "seconds": 0, "more": 1,
         "volume": (1, 1), "measured": None}
    for name in ("input", "output"):
        m[name + "_p50"], m[name + "_p95"] = (rank([c[name] for c in calls], q) for q in (0.5, 0.95))
    timed = [c for c in everything if c["begun_us"]]
    if timed:
        start, end = min(c["begun_us"] for c in timed), max(c["begun_us"] + c["total"] for c in timed)
        m["span_days"] = (end - start) / 86400e6
        begins = [c["begun_us"] for c in calls]
        width = next((w for w in (60e6, 3600e6) if n * w >= end - start), 86400e6)
        total = max(1, math.ceil((end - start) / width))
        some = windows(begins, start, width)
        m["burst"] = max(1, rank(some + [0] * (total - len(some)), 0.95) / (n / total))
        off = 1.96 / math.sqrt(n)
        whole = math.floor(m["span_days"])
        if whole >= 3:
            days = windows(begins, start, 86400e6)
            whole = max(whole, len(days))
            days += [0] * (whole - len(days))
            mean = sum(days) / whole
            deviation = math.sqrt(sum((d - mean) ** 2 for d in days) / (whole - 1))
            off = max(off, 1.96 * deviation / math.sqrt(whole) / mean)
        m["volume"] = (max(0, 1 - off), 1 + off)
        m["seconds"] = sum(c["total"] for c in calls) / n / 1e6
        m["at_once"] = sum(c["total"] for c in calls) / 1e6 / (m["span_days"] * 86400)
        found = [sum(d["begun_us"] <= c["begun_us"] < d["begun_us"] + d["total"] for d in calls) for c in calls]
        # of several that begin together, each finds those before it in the list and itself
        begin_order = sorted(range(n), key=lambda i: calls[i]["begun_us"])
        for i in begin_order:
            found[i] -= sum(calls[j]["begun_us"] == calls[i]["begun_us"] for j in begin_order[begin_order.index(i) + 1:])
        m["p95_at_once"] = rank(found, 0.95)
        reads = [c for c in calls if c["ttft"] > c["queue"] and c["input"] > c["cached"]]
        gaps = [c for c in calls if c["itl"] and c["output"] > 1]
        if reads and gaps:
            prefill = sum(c["input"] - c["cached"] for c in reads) / sum(c["ttft"] - c["queue"] for c in reads) * 1e6
            one = sum(c["output"] - 1 for c in gaps) / sum(c["itl"] * (c["output"] - 1) for c in gaps) * 1e6
            m["measured"] = {"prefill_tok_per_s": prefill, "decode_tok_per_s": (one, one * max(1, m["p95_at_once"])),
                             "parallel": max(found)}
    if calls_per_day:
        m["calls_per_month"] = calls_per_day * MONTH_DAYS * n / len(everything)
        m["volume"] = (1, 1)
        if timed:
            m["more"] = m["calls_per_month"] / (n / m["span_days"] * MONTH_DAYS)
    else:
        m["calls_per_month"] = n / m["span_days"] * MONTH_DAYS
    return m


# ---- assumptions ----

def cloud_ranges(offer, batch):
    tiers = [{**offer, "above": 0}] + offer.get("long", [])
    r = {"token_ratio": offer["token_ratio"], "hit": offer.get("cache_hit", (0, 1 if "cached_read" in offer else 0)),
         "written": offer.get("cache_written", (0, 1 if "cached_write" in offer else 0)),
         "batch": offer.get("batch", 0) if batch else 0}
    for i, tier in enumerate(tiers):
        for kind in KINDS:
            if kind in tier:
                r[kind, i] = tier[kind]
    return {k: pair(v) for k, v in r.items()}, tiers


def local_ranges(machine, costs, m):
    can = machine.get("capacity") or m["measured"]
    r = {"price": machine["price"], "resale": machine.get("resale", 0), "life": machine["life_years"],
         "hosting": machine.get("hosting_per_month", 0), "watts": machine["watts_idle"],
         "prefill_j": machine["joules_per_token"]["prefill"], "decode_j": machine["joules_per_token"]["decode"],
         "kwh": costs["electricity"]["price_per_kwh"], "pue": costs["electricity"].get("pue", 1),
         "hours": costs["staff"]["hours_per_month"], "wage": costs["staff"]["price_per_hour"],
         "utilisation": costs.get("utilisation", 0.8), "prefill": can["prefill_tok_per_s"],
         "decode": can["decode_tok_per_s"], "parallel": can["parallel"]}
    return {k: pair(v) for k, v in r.items()}


SAVES = {"resale", "life", "utilisation", "prefill", "decode", "parallel", "batch"}  # more of it costs less


# ---- the cloud ----

def cloud_cost(m, tiers, v, volume=1.0):
    money = 0
    for c in m["calls"]:
        prompt = c["input"] * v["token_ratio"]
        i = max(k for k, t in enumerate(tiers) if k == 0 or prompt > t["above"])
        read = c["cached"] * v["token_ratio"] * v["hit"]
        written = (prompt - read) * v["written"]
        for kind, tokens in (("input", prompt - read - written), ("cached_read", read), ("cached_write", written),
                             ("output", c["output"] * v["token_ratio"])):
            money += tokens / 1e6 * v.get((kind, i), v["input", i])
    return money / m["n"] * m["calls_per_month"] * volume * (1 - v["batch"])


# ---- machines ----

def up(one, needed, n):
    """Chance that at least `needed` of n run."""
    one = decimal.Decimal(one)
    return min(1.0, float(sum(math.comb(n, k) * one ** k * (1 - one) ** (n - k) for k in range(needed, n + 1))))


def machine_availability(machine):
    if "repair" in machine:
        (a, b), (c, d) = pair(machine["repair"]["mtbf_hours"]), pair(machine["repair"]["mttr_hours"])
        return a / (a + d), b / (b + c)
    return pair(machine["availability"]) if "availability" in machine else None


def fleet(machine, costs, needed, target, behind):
    """Spares, and the availability at its low end; behind: that of the cloud, or None."""
    spares, one = costs.get("spare", 0), machine_availability(machine)
    if one is None:
        return spares, 0
    site = pair(costs.get("site_availability", 1))[0]

    def reached(machines):
        own = site * machines
        return own if behind is None else 1 - (1 - own) * (1 - behind)
    if target and reached(1) > target:
        for s in range(spares, 65):
            if reached(up(one[0], needed, needed + s)) >= target:
                spares = s
                break
    return spares, reached(up(one[0], needed, needed + spares))


def needed_machines(m, v, machine, volume=1.0):
    """Machines that must run; answers at once; machines that are busy at the peak."""
    fresh, out = m["input"] - m["cached"], m["output"]
    per_s = m["calls_per_month"] * volume / MONTH_S
    seconds = fresh / v["prefill"] + out * v["parallel"] / v["decode"]
    if m["seconds"]:
        s = m["more"] * volume * (seconds / m["seconds"] if machine.get("capacity") else 1)
        poisson = [x + 1.645 * math.sqrt(x) for x in (m["at_once"] * s, m["at_once"])]
        slots = max(1, 1 + (m["p95_at_once"] - 1) * s, m["p95_at_once"] + poisson[0] - poisson[1])
    else:
        x = per_s * seconds
        slots = max(1, x + 1.645 * math.sqrt(x))
    load = per_s * (fresh / v["prefill"] + out / v["decode"]) * m["burst"]
    return max(1, math.ceil(slots / v["parallel"] - 1e-9), math.ceil(load / v["utilisation"] - 1e-9)), slots, load


def local_cost(m, machine, costs, v, target, behind=None, cloud=0.0, volume=1.0):
    """behind: availability of the cloud that answers while machines are down, cloud: what it costs for all calls."""
    needed, _, _ = needed_machines(m, v, machine, volume)
    spares, _ = fleet(machine, costs, needed, target, behind)
    n, calls = needed + spares, m["calls_per_month"] * volume
    kwh = (n * v["watts"] * MONTH_S + calls * (m["input"] - m["cached"]) * v["prefill_j"] +
           calls * m["output"] * v["decode_j"]) / 3.6e6
    total = (n * v["price"] * (1 - v["resale"]) / (12 * v["life"]) + n * v["hosting"] + kwh * v["pue"] * v["kwh"] +
             v["hours"] * v["wage"])
    if behind is not None:
        one, site = machine_availability(machine)[0], pair(costs.get("site_availability", 1))[0]
        total += (1 - site * up(one, needed, n)) * cloud
    return total


# ---- ranges ----

def middle(r):
    return {k: mid(x) for k, x in r.items()}


def ends(r, cost):
    """The least and the most of cost(v) with every assumption at one of its ends."""
    result = []
    for pick, at in ((min, 0), (max, 1)):
        v = {k: x[1 - at] if k in SAVES else x[at] for k, x in r.items()}
        result.append(pick(cost({**v, **({"hit": r["hit"][a], "written": r["written"][b]} if "hit" in r else {})})
                           for a in (0, 1) for b in (0, 1)))
    return result
