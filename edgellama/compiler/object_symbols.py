"""What an object file needs from its process, read from its symbol table (ELF, COFF and Mach-O specifications)."""

import struct

_COFF_MACHINES = (0x8664, 0xAA64)  # x86-64 and AArch64
_COFF_SYMBOL_BYTES = 18
_MACHO_SYMTAB, _MACHO_SYMBOL_BYTES = 2, 16


def undefined_symbols(data: bytes) -> set[str] | None:
    """Names that a 64-bit little-endian ELF, COFF or Mach-O object leaves undefined, as C has them; else None."""
    if data[:6] == b"\x7fELF\x02\x01":
        return _elf_symbols(data)
    if data[:4] == b"\xcf\xfa\xed\xfe" and len(data) >= 32:
        return _macho_symbols(data)
    if len(data) >= 20 and struct.unpack_from("<H", data)[0] in _COFF_MACHINES:
        return _coff_symbols(data)
    return None


def _elf_symbols(data: bytes) -> set[str]:
    (offset,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, offset + i * size) for i in range(count)]
    names = set()
    for _, kind, _, _, start, length, link, *_ in sections:
        if kind == 2:  # SHT_SYMTAB; its first entry is a dummy
            strings = sections[link][4]
            for at in range(start + 24, start + length, 24):
                name, _, _, section = struct.unpack_from("<IBBH", data, at)
                if section == 0:  # SHN_UNDEF
                    names.add(_string(data, strings + name))
    return names


def _coff_symbols(data: bytes) -> set[str]:
    start, count = struct.unpack_from("<II", data, 8)
    strings = start + count * _COFF_SYMBOL_BYTES
    names, index = set(), 0
    while index < count:
        name, value, section, _, storage, n_auxiliary = struct.unpack_from(
            "<8sIhHBB", data, start + index * _COFF_SYMBOL_BYTES
        )
        if section == 0 and value == 0 and storage == 2:  # IMAGE_SYM_UNDEFINED, IMAGE_SYM_CLASS_EXTERNAL
            zeros, offset = struct.unpack("<II", name)
            names.add(_string(data, strings + offset) if zeros == 0 else name.rstrip(b"\0").decode())
        index += 1 + n_auxiliary
    return names


def _macho_symbols(data: bytes) -> set[str]:
    (n_commands,) = struct.unpack_from("<I", data, 16)
    names, at = set(), 32
    for _ in range(n_commands):
        command, size = struct.unpack_from("<II", data, at)
        if command == _MACHO_SYMTAB:
            start, count, strings = struct.unpack_from("<III", data, at + 8)
            for symbol in range(start, start + count * _MACHO_SYMBOL_BYTES, _MACHO_SYMBOL_BYTES):
                name, kind = struct.unpack_from("<IB", data, symbol)
                if kind & 0x0F == 1:  # N_UNDF | N_EXT
                    names.add(_string(data, strings + name).removeprefix("_"))
        at += size
    return names


def _string(data: bytes, start: int) -> str:
    return data[start : data.index(b"\0", start)].decode()
