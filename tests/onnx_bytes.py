"""ONNX models written by hand, field by field, for tests of what reads them."""


def varint(value):
    out = bytearray()
    while True:
        byte, value = value & 0x7F, value >> 7
        out.append(byte | (0x80 if value else 0))
        if not value:
            return bytes(out)


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def node(kind, domain="", *attributes):
    parts = [field(4, kind), *(field(5, attribute) for attribute in attributes)]
    return field(1, b"".join([*parts, *([field(7, domain)] if domain else [])]))


def tensor(name, location=None):
    content = field(8, name) + field(9, b"\0" * 8)
    if location is not None:
        content += field(13, field(1, "location") + field(2, location))
    return content


def model(graph, *opsets, ir=8):
    imports = [field(8, field(1, domain) + field(2, version)) for domain, version in opsets]
    return b"".join([field(1, ir), *imports, field(7, graph)])
