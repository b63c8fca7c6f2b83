"""Random JSON schemas of the kinds that tools and response formats have, each with a maker of values that satisfy it.

A maker is a function of a random generator; whoever uses its values has jsonschema look at them first, for some schemas
(allOf, bounds on the number of properties) cannot be met by every draw.
"""
import json
import string

NAMES = ["id", "name", "city", "größe", "a b", "x-y", "日本", "n", "nam", "names", "q\"uote", "back\\slash", "tab\t", "/path", "e", "é", "😀"]
WORDS = ["", "a", "Berlin", "naïve café", "日本語", "😀", "line\nbreak", "q\"uo\\te", "/", "\x00\x1f\x7f", "<b>&amp;", "{}[],:", "ÀÉ"]


def text(rng, low=0, high=12):
    n = rng.randint(low, high)
    out = "".join(rng.choice([rng.choice(string.printable), rng.choice(string.ascii_letters), rng.choice("äß日😀\u2028\x07")])
                  for _ in range(n))
    return out


def boolean(rng, depth):
    return {"type": "boolean"}, lambda r: r.random() < 0.5


def null(rng, depth):
    return {"type": "null"}, lambda r: None


def anything(rng, depth):
    schema = rng.choice([True, {}, {"description": "whatever"}])

    def make(r, level=0):
        kind = r.randint(0, 6 if level < 3 else 4)
        if kind == 5:
            return [make(r, level + 1) for _ in range(r.randint(0, 3))]
        if kind == 6:
            return {text(r, 0, 5): make(r, level + 1) for _ in range(r.randint(0, 3))}
        return [None, True, r.randint(-10**6, 10**6), r.uniform(-1e3, 1e3), text(r)][kind]
    return schema, make


def integer(rng, depth):
    schema = {"type": "integer"}
    low, high = -10**12, 10**12
    if rng.random() < 0.7:
        span = rng.choice([0, 1, 9, 50, 1000, 10**6, 10**15])
        low = rng.choice([0, 1, -5, 7, 99, 100, -1000, rng.randint(-10**9, 10**9)])
        high = low + span
        if rng.random() < 0.5:
            schema["minimum"] = low
        elif rng.random() < 0.5:
            schema["exclusiveMinimum"] = low - 1
        else:
            low = min(low, high - 10**6)
        if rng.random() < 0.5:
            schema["maximum"] = rng.choice([high, high + 0.5])
        elif rng.random() < 0.5:
            schema["exclusiveMaximum"] = high + 1
        else:
            high = max(high, low + 10**6)
    step = 1
    if rng.random() < 0.25:
        step = rng.choice([2, 3, 5, 7, 10, 25, 60, 100])
        schema["multipleOf"] = step
    low, high = -(-low // step), high // step

    def make(r):
        return r.choice([low, high, r.randint(min(low, high), max(low, high))]) * step
    return schema, make


def number(rng, depth):
    schema = {"type": "number"}
    low, high = -1e6, 1e6
    if rng.random() < 0.7:
        low = rng.choice([0, 0.0, 0.5, -1, -273.15, 3.25, 1e-3, 100, rng.uniform(-100, 100)])
        high = low + rng.choice([0.25, 1, 2.5, 100, 99999.5])
        if rng.random() < 0.6:
            schema[rng.choice(["minimum", "exclusiveMinimum"])] = low
        if rng.random() < 0.6:
            schema[rng.choice(["maximum", "exclusiveMaximum"])] = high

    def make(r):
        x = r.choice([low, high, r.uniform(low, high), round(r.uniform(low, high), 2), int(r.uniform(low, high))])
        return x if abs(x) >= 1e-4 or x == 0 else round(x, 4)
    return schema, make


FORMATS = {
    "date": lambda r: f"{r.randint(1, 9999):04}-{r.randint(1, 12):02}-{r.randint(1, 28):02}",
    "time": lambda r: f"{r.randint(0, 23):02}:{r.randint(0, 59):02}:{r.randint(0, 59):02}" + r.choice(["Z", "+02:00", ".5Z"]),
    "date-time": lambda r: FORMATS["date"](r) + "T" + FORMATS["time"](r),
    "uuid": lambda r: "-".join("".join(r.choice("0123456789abcdefABCDEF") for _ in range(n)) for n in (8, 4, 4, 4, 12)),
    "ipv4": lambda r: ".".join(str(r.randint(0, 255)) for _ in range(4)),
    "ipv6": lambda r: r.choice(["::", "::1", "fe80::1", "2001:db8::8a2e:370:7334", "1:2:3:4:5:6:7:8", "::ffff:1.2.3.4"]),
    "email": lambda r: r.choice(["a@b.example", "first.last+tag@mail.example.org"]),
    "uri": lambda r: r.choice(["https://example.org/a?b=c#d", "mailto:a@b.example", "urn:isbn:0451450523"]),
    "hostname": lambda r: r.choice(["localhost", "a.example.org", "xn--bcher-kva.example"]),
    "duration": lambda r: r.choice(["P1D", "PT5M", "P1Y2M3DT4H5M6S", "P4W"]),
    "who-knows": lambda r: text(r),
}


def formatted(rng, depth):
    name = rng.choice(list(FORMATS))
    return {"type": "string", "format": name}, FORMATS[name]


PATTERNS = [
    ("^[a-z]+$", lambda r: "".join(r.choice("abcxyz") for _ in range(r.randint(1, 9)))),
    ("^[A-Z]{2,3}-\\d{4}$", lambda r: f"{r.choice(['AB', 'XYZ'])}-{r.randint(0, 9999):04}"),
    ("b", lambda r: text(r) + "b" + text(r)),
    ("^(foo|bar)baz?", lambda r: r.choice(["fooba", "barbaz", "foobaz "]) + text(r)),
    ("[0-9]+$", lambda r: text(r) + str(r.randint(0, 999))),
    ("^\\S+@\\S+$", lambda r: "x@y" + "é" * r.randint(0, 3)),
    ("^$|^x", lambda r: r.choice(["", "x", "xyz"])),
    ("^\\W\\D\\s*.$", lambda r: r.choice(["-a  é", "!xx", "? \n"]).replace("\n", "z")),
    ("^[^\"\\\\\\x00-\\x1f]{0,8}$", lambda r: r.choice(["", "äöü", "a b/c", "😀😀"])),
    ("^(?:[a-f0-9]{2}:){2}[a-f0-9]{2}$", lambda r: "0a:ff:3c"),
]


def string_(rng, depth):
    schema, low, high = {"type": "string"}, 0, 12
    if rng.random() < 0.3:
        pattern, make = rng.choice(PATTERNS)
        schema["pattern"] = pattern
        if rng.random() < 0.5:
            schema["maxLength"] = rng.choice([3, 6, 10])
        if rng.random() < 0.3:
            schema["minLength"] = rng.choice([1, 3])
        return schema, make
    if rng.random() < 0.5:
        low = schema["minLength"] = rng.choice([0, 1, 3])
        high = low + 12
    if rng.random() < 0.5:
        high = schema["maxLength"] = low + rng.choice([0, 1, 5, 30])
    return schema, lambda r: text(r, low, high)


def scalars(rng, n):
    return [rng.choice([None, True, False, 0, 1, -3, 2.5, 0.1, 1e-7, 12345678901234567890.0, rng.choice(WORDS), "red"])
            for _ in range(n)]


def enum(rng, depth):
    values = scalars(rng, rng.randint(1, 6))
    if rng.random() < 0.2:
        values.append({"k": [1, {"x": None}], "ö": "z"})
    if rng.random() < 0.3:
        return {"const": values[-1]}, lambda r: values[-1]
    if rng.random() < 0.3:
        names = sorted({text(rng, 0, 3) for _ in range(20)} | set(WORDS))
        return {"type": "string", "enum": names}, lambda r: r.choice(names)
    return {"enum": values}, lambda r: r.choice(values)


def array(rng, depth):
    schema = {"type": "array"}
    item, make = any_schema(rng, depth + 1)
    if rng.random() < 0.85:
        schema["items"] = item
    prefix = []
    if rng.random() < 0.3:
        prefix = [any_schema(rng, depth + 1) for _ in range(rng.randint(1, 3))]
        schema["prefixItems"] = [p for p, _ in prefix]
        if rng.random() < 0.4:
            schema["items"] = False
    low, high = 0, 4
    if rng.random() < 0.4:
        low = schema["minItems"] = rng.randint(0, 3)
    if rng.random() < 0.4:
        high = schema["maxItems"] = low + rng.randint(0, 3)
    if schema.get("items") is False:
        high = min(high, len(prefix))
        low = min(low, high)

    def draw(r):
        n = r.randint(low, max(low, high))
        return [prefix[i][1](r) if i < len(prefix) else make(r) for i in range(n)]
    return schema, draw


def object_(rng, depth):
    names = rng.sample(NAMES, rng.randint(0, 5))
    members = {n: any_schema(rng, depth + 1) for n in names}
    schema = {"type": "object", "properties": {n: s for n, (s, _) in members.items()}}
    required = [n for n in names if rng.random() < 0.5]
    extra = None
    if required and rng.random() < 0.9:
        schema["required"] = required
    else:
        required = []
    roll = rng.random()
    if roll < 0.5:
        schema["additionalProperties"] = False
    elif roll < 0.7:
        schema["additionalProperties"], extra = any_schema(rng, depth + 1)
    low, high, patterned = 0, 99, None
    if rng.random() < 0.15:
        high = schema["maxProperties"] = max(len(required), rng.randint(1, 4))
    if rng.random() < 0.15 and (schema.get("additionalProperties") is False or len(required)):
        low = schema["minProperties"] = min(len(required) + 1, len(names))
    if rng.random() < 0.15:
        value, patterned = any_schema(rng, depth + 1)
        schema["patternProperties"] = {"^p_": value}

    def draw(r):
        out = {n: make(r) for n, (_, make) in members.items() if n in required or r.random() < 0.6}
        for key in ("extra", "naMe", "namesake", "é2"):
            if extra and r.random() < 0.3:
                out[key] = extra(r)
        if patterned and r.random() < 0.5:
            out["p_" + r.choice("xyé")] = patterned(r)
        while len(out) > high:
            del out[next(k for k in reversed(out) if k not in required)]
        return out
    return schema, draw


def any_of(rng, depth):
    branches = [any_schema(rng, depth + 1) for _ in range(rng.randint(1, 3))]
    return {"anyOf": [s for s, _ in branches]}, lambda r: r.choice(branches)[1](r)


def one_of(rng, depth):
    """Branches that a type or a constant tells apart."""
    if rng.random() < 0.5:
        branches = rng.sample([string_, boolean, null, array, integer], rng.randint(1, 3))
        branches = [b(rng, depth + 1) for b in branches]
    else:
        branches = []
        for kind in rng.sample(["circle", "square", "line"], rng.randint(2, 3)):
            schema, make = any_schema(rng, depth + 1)
            branches.append(({"type": "object", "required": ["kind", "value"], "additionalProperties": rng.random() < 0.5,
                              "properties": {"kind": {"const": kind}, "value": schema}},
                             lambda r, kind=kind, make=make: {"kind": kind, "value": make(r)}))
    return {"oneOf": [s for s, _ in branches]}, lambda r: r.choice(branches)[1](r)


def types(rng, depth):
    schema, make = any_schema(rng, depth + 1, [string_, integer, boolean, formatted])
    return {**schema, "type": [schema["type"], "null"]}, lambda r: None if r.random() < 0.4 else make(r)


def all_of(rng, depth):
    a, make_a = object_(rng, depth + 1)
    b, make_b = any_schema(rng, depth + 1)
    a.pop("additionalProperties", None)
    schema = {"allOf": [a, {"properties": {"last": b}, "required": ["last"]}]}
    if rng.random() < 0.3:
        schema["properties"] = {"last": {"description": "no more than that"}, "own": {"type": "integer", "maximum": 9}}

    def draw(r):
        out = make_a(r)
        declared = {k: v for k, v in out.items() if k in a["properties"]}
        return {**declared, "last": make_b(r), **out}
    return schema, draw


def tree(rng, depth):
    """The whole schema with a definition that refers to itself."""
    value, make = any_schema(rng, depth + 1)
    node = {"type": "object", "properties": {"value": value, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                                             "kids": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
            "required": ["value", "next"], "additionalProperties": False}

    def draw(r, level=0):
        out = {"value": make(r), "next": draw(r, level + 1) if level < 2 and r.random() < 0.5 else None}
        if r.random() < 0.4:
            out["kids"] = [draw(r, level + 2) for _ in range(r.randint(0, 2))] if level < 2 else []
        return out
    return {"$ref": "#/$defs/node", "$defs": {"node": node}}, draw


SCALAR = [boolean, null, integer, integer, number, number, formatted, string_, string_, enum, enum, types]
NESTED = [array, array, object_, object_, object_, any_of, one_of, all_of, anything]


def any_schema(rng, depth, kinds=None):
    return rng.choice(kinds or (SCALAR if depth > 2 or rng.random() < 0.45 else NESTED))(rng, depth)


def whole(rng):
    return rng.choice([tree, object_, object_, object_, array, all_of, one_of, lambda g, d: any_schema(g, d)])(rng, 0)


def mutate(rng, value):
    """A value near the given one that a schema may or may not like."""
    if isinstance(value, dict) and value and rng.random() < 0.75:
        out, key = dict(value), rng.choice(list(value))
        roll = rng.random()
        if roll < 0.3:
            del out[key]
        elif roll < 0.5:
            out[rng.choice(["zzz", "p_", key + "x", key.upper()])] = rng.choice(scalars(rng, 3))
        else:
            out[key] = mutate(rng, value[key])
        return out
    if isinstance(value, list) and value and rng.random() < 0.75:
        out, i = list(value), rng.randrange(len(value))
        roll = rng.random()
        if roll < 0.3:
            del out[i]
        elif roll < 0.6:
            out.insert(i, rng.choice([value[i], *scalars(rng, 2)]))
        else:
            out[i] = mutate(rng, value[i])
        return out
    if isinstance(value, str) and rng.random() < 0.7:
        i = rng.randint(0, len(value))
        return rng.choice([value[:i] + rng.choice("aZ9-é😀\n ") + value[i:], value[:i] + value[i + 1:], value * 3])
    if isinstance(value, (int, float)) and not isinstance(value, bool) and rng.random() < 0.7:
        return rng.choice([value + 1, value - 1, -value, value * 10, value + 0.5, value / 3 if value else 1, value + 1e-9])
    return rng.choice(scalars(rng, 3) + [{}, [], [value]])


def forms(value):
    """Texts of the value as json.dumps writes them."""
    return [json.dumps(value), json.dumps(value, indent=2), json.dumps(value, separators=(",", ":")),
            json.dumps(value, ensure_ascii=False), json.dumps(value, indent="\t", ensure_ascii=False)]
