"""The fast kernels and the loop that runs a planned program with them, compiled by Numba.

Layout. A real map lies as one float32 run per channel: rows of S numbers, S >= width, the columns beyond the width
hold junk that nobody reads. S leaves room for the padding of the convolutions on maps of this width, so a
convolution, its epilogue and a comparison run over a whole channel as one flat loop, without thought for rows.
Codes lie as one byte per pixel and *quad* (the codes of 4, 2 or 1 channels that share a nibble), in rows of the same S;
everything outside of the map is 0x80, which looks up zero. A strided convolution has one such map per phase (the
inputs at rows y s + i, columns x s + j); within a phase it is an unstrided one.

All offsets come from the planner, which derives them from a checked program: nothing here checks bounds.
"""

from typing import Any

import numpy as np
from numba import njit

from binarch.runtime.barrier import meet
from binarch.runtime.lookup import DOUBLES, LANES, keep_larger, make_compare, make_finish, make_real_tile, make_tile

#: Digest of lookup.py and barrier.py, whose code is compiled into the kernels. Numba's cache looks at this file only:
#: with the digest here (a test compares it) no change of those files can leave anyone with kernels of old code.
VECTOR_CODE = "11b6eb24211e433a"
#: Numbers in one row of a plan.
COLUMNS = 28

#: Steps of a plan.
IMAGE, CONV, QUANTIZE, BITCONV, AFFINE, PRELU, CLIP, ADD, COPY, POOL, MEAN, ZEROS, BITLINEAR, PACK = range(14)

PADDING = 0x80

_tile33, _tile31 = make_tile(3, 3, narrow=False), make_tile(3, 1, narrow=False)
_tile13, _tile11 = make_tile(1, 3, narrow=False), make_tile(1, 1, narrow=False)
_narrow33, _narrow31 = make_tile(3, 3, narrow=True), make_tile(3, 1, narrow=True)
_narrow13, _narrow11 = make_tile(1, 3, narrow=True), make_tile(1, 1, narrow=True)
_finish0 = make_finish(residual=False, total=False)
_finish1 = make_finish(residual=True, total=False)
_finish2 = make_finish(residual=True, total=True)
_real4, _real1 = make_real_tile(4, 2), make_real_tile(1, 2)
_compare4, _compare3, _compare2, _compare1 = (make_compare(held) for held in (4, 3, 2, 1))


def compiled(function: Any) -> Any:
    """Numba's compiler as this project uses it: cached on disk, free of the GIL, IEEE arithmetic."""
    return njit(cache=True, nogil=True, boundscheck=False, error_model="numpy")(function)


@compiled
def _sum_chunk(codes, base, offsets, q0, q1, ids, at, count, tables, sums, pitch, fresh):
    """Sums of three filters over all pixels in 16 bits: one chunk of the quads; pitch is a multiple of 32."""
    pixel = 0
    while pixel + 3 * LANES <= pitch:
        _tile33(codes, base + pixel, offsets, q0, q1, ids, at, count, tables, sums, pixel, pitch, fresh)
        pixel += 3 * LANES
    while pixel < pitch:
        _tile31(codes, base + pixel, offsets, q0, q1, ids, at, count, tables, sums, pixel, pitch, fresh)
        pixel += LANES


@compiled
def _sum_chunk1(codes, base, offsets, q0, q1, ids, at, count, tables, sums, pitch, fresh):
    """The same for one filter."""
    pixel = 0
    while pixel + 3 * LANES <= pitch:
        _tile13(codes, base + pixel, offsets, q0, q1, ids, at, count, tables, sums, pixel, pitch, fresh)
        pixel += 3 * LANES
    while pixel < pitch:
        _tile11(codes, base + pixel, offsets, q0, q1, ids, at, count, tables, sums, pixel, pitch, fresh)
        pixel += LANES


@compiled
def _sum_wide(codes, base, offsets, first, count, ids, row, rows, tables, sums, pitch, chunk):
    """Sums of ``rows`` filters, into ``sums[r * pitch + p]`` (int16)."""
    for done in range(0, count, chunk):
        q0, q1 = first + done, first + min(done + chunk, count)
        at = row - first
        if rows == 3:
            _sum_chunk(codes, base, offsets, q0, q1, ids, at, count, tables, sums, pitch, done == 0)
        else:
            for r in range(rows):
                own = sums[r * pitch :]
                _sum_chunk1(codes, base, offsets, q0, q1, ids, at + r * count, count, tables, own, pitch, done == 0)


@compiled
def _sum_narrow(codes, base, offsets, first, count, ids, row, rows, tables, sums, pitch):
    """The same for sums that fit 8 bits (int8)."""
    at, q1 = row - first, first + count
    for r in range(1 if rows == 3 else rows):
        pixel, own, to = 0, at + r * count, r * pitch
        while pixel + 3 * LANES <= pitch:
            if rows == 3:
                _narrow33(codes, base + pixel, offsets, first, q1, ids, own, count, tables, sums, pixel, pitch, True)
            else:
                _narrow13(
                    codes, base + pixel, offsets, first, q1, ids, own, count, tables, sums, to + pixel, pitch, True
                )
            pixel += 3 * LANES
        while pixel < pitch:
            if rows == 3:
                _narrow31(codes, base + pixel, offsets, first, q1, ids, own, count, tables, sums, pixel, pitch, True)
            else:
                _narrow11(
                    codes, base + pixel, offsets, first, q1, ids, own, count, tables, sums, to + pixel, pitch, True
                )
            pixel += LANES


@compiled
def _finish(sums, at, length, scale, slope, maps, out, residual, total):
    """One channel's sums -> scale, PReLU, + residual, + running total (-1: none), in this order of rounding."""
    if residual < 0:
        _finish0(sums, at, length, scale, slope, maps, out, 0, 0)
    elif total < 0:
        _finish1(sums, at, length, scale, slope, maps, out, residual, 0)
    else:
        _finish2(sums, at, length, scale, slope, maps, out, residual, total)


@compiled
def _place(channel, channels, groups):
    """Where a shuffle puts a channel."""
    block = channels // groups
    return channel % block * groups + channel // block


@compiled
def _bitconv(s, maps, codes, sums, bytes_, reals, ids, offsets, tables, part, parts):
    """A grouped convolution of codes; with several parts, the filters are dealt out to them."""
    base, first, count, group_pitch, groups, per_group = s[1], s[2], s[3], s[4], s[5], s[6]
    row, table, chunk, pitch, scale, slope = s[7], s[8], s[9], s[10], s[11], s[12]
    out, shuffle, residual, total, factor = s[13], s[14], s[15], s[16], np.float32(s[17])
    channels = groups * per_group
    table_of = tables[table:]
    high = channels * (part + 1) // parts
    channel = channels * part // parts
    while channel < high:
        group = channel // per_group
        rows = min(3, (group + 1) * per_group - channel, high - channel)
        start, own = base + group * group_pitch, row + channel * count
        if count <= chunk:
            _sum_narrow(codes, start, offsets, first, count, ids, own, rows, table_of, bytes_, pitch)
        else:
            _sum_wide(codes, start, offsets, first, count, ids, own, rows, table_of, sums, pitch, chunk)
        for r in range(rows):
            at = _place(channel + r, channels, shuffle) * pitch
            by = reals[scale + channel + r] * factor
            bend = reals[slope + channel + r] if slope >= 0 else np.float32(1)
            before, others = residual + at if residual >= 0 else -1, total + at if total >= 0 else -1
            if count <= chunk:
                _finish(bytes_, r * pitch, pitch, by, bend, maps, out + at, before, others)
            else:
                _finish(sums, r * pitch, pitch, by, bend, maps, out + at, before, others)
        channel += rows


@compiled
def _gather(maps, x, row, stride_y, stride_x, height, width, lines, to, own):
    """One phase of a channel, row by row."""
    for i in range(height):
        source, target = maps[x + i * stride_y * row :], lines[to + i * own : to + i * own + width]
        if stride_x == 1:
            for j in range(width):
                target[j] = source[j]
        elif stride_x == 2:
            for j in range(width):
                target[j] = source[2 * j]
        else:
            for j in range(width):
                target[j] = source[j * stride_x]


@compiled
def _compare_some(
    source, x, pitch, held, reals, limits, levels, bits, flips, flip, codes, begin, size, front, pads, pad, length
):  # fmt: skip
    """Nibbles from a few channels with any number of levels, with their padding."""
    codes[begin : begin + size] = PADDING
    target, edge = codes[begin + front : begin + front + length], pads[pad : pad + length]
    target[:] = 0
    for k in range(held):
        seen = source[x + k * pitch : x + k * pitch + length]
        turned = flip >= 0 and flips[flip + k] != 0
        one = np.uint8(1 << (k * bits))
        for t in range(levels - 1):
            limit = reals[limits + k * (levels - 1) + t]
            if turned:
                for i in range(length):
                    target[i] += np.uint8(0) if seen[i] >= limit else one
            else:
                for i in range(length):
                    target[i] += one if seen[i] >= limit else np.uint8(0)
    for i in range(length):
        target[i] |= edge[i]


@compiled
def _quantize(s, maps, codes, lines, reals, flips, pads, part, parts):
    """Nibbles of one phase of a map, with its frame of padding."""
    x, pitch, row, height, width, own = s[1], s[2], s[3], s[4], s[5], s[6]
    out, size, front, levels, thresholds, flip = s[7], s[8], s[9], s[10], s[11], s[12]
    groups, per_group, per_quad, bits = s[13], s[14], s[15], s[16]
    stride_y, stride_x, first_y, first_x, pad = s[17], s[18], s[19], s[20], s[21]
    quads = (per_group + per_quad - 1) // per_quad
    length = height * own
    whole = (length + LANES - 1) // LANES * LANES
    flat = stride_y == 1 and stride_x == 1 and row == own
    source = maps if flat else lines
    for number in range(groups * quads * part // parts, groups * quads * (part + 1) // parts):
        group, quad = number // quads, number % quads
        channel = group * per_group + quad * per_quad
        held = min(per_quad, per_group - quad * per_quad)
        begin = out + number * size
        if flat:
            at, step = x + channel * pitch, pitch
        else:
            at, step = 0, whole
            for k in range(held):
                place = x + (channel + k) * pitch + first_y * row + first_x
                _gather(maps, place, row, stride_y, stride_x, height, width, lines, at + k * whole, own)
        limits = thresholds + channel * (levels - 1)
        turned = flip + channel if flip >= 0 else -1
        if bits > 1:
            _compare_some(
                source, at, step, held, reals, limits, levels, bits, flips, turned, codes, begin, size, front, pads,
                pad, length,
            )  # fmt: skip
            continue
        mask = np.uint8(0)
        if flip >= 0:
            for k in range(held):
                mask |= np.uint8(flips[turned + k] << k)
        if held == 4:
            _compare4(source, at, step, reals, limits, mask, codes, begin, size, front, pads, pad, length)
        elif held == 3:
            _compare3(source, at, step, reals, limits, mask, codes, begin, size, front, pads, pad, length)
        elif held == 2:
            _compare2(source, at, step, reals, limits, mask, codes, begin, size, front, pads, pad, length)
        else:
            _compare1(source, at, step, reals, limits, mask, codes, begin, size, front, pads, pad, length)


@compiled
def _pack(s, maps, words, reals, flips):
    """One-bit codes of a 1 x 1 map (channels lie side by side) as 64-bit words."""
    x, channels, out, thresholds, flip = s[1], s[2], s[3], s[4], s[5]
    for word in range((channels + 63) // 64):
        value = np.uint64(0)
        for bit in range(min(64, channels - 64 * word)):
            channel = 64 * word + bit
            one = maps[x + channel] >= reals[thresholds + channel]
            if flip >= 0 and flips[flip + channel]:
                one = not one
            value |= np.uint64(one) << np.uint64(bit)
        words[out + word] = value


@compiled
def _popcount(x):
    """Ones in a 64-bit word; LLVM recognises the loop-free form."""
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (x * np.uint64(0x0101010101010101)) >> np.uint64(56)


@compiled
def _bitlinear(s, maps, words, rows, reals, part, parts):
    """A fully connected layer of signs: inputs minus twice the differing bits."""
    x, count, inputs, row, scale, slope, out, channels = s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8]
    for channel in range(channels * part // parts, channels * (part + 1) // parts):
        differing = np.uint64(0)
        own = row + channel * count
        for k in range(count):
            differing += _popcount(words[x + k] ^ rows[own + k])
        y = np.float32(inputs - 2 * np.int64(differing)) * reals[scale + channel]
        maps[out + channel] = y if slope < 0 or y > 0 else y * reals[slope + channel]


@compiled
def _image(s, image, maps, reals):
    out, channels, height, width, row, pitch, mean, std = s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8]
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                value = image[(c * height + y) * width + x]
                maps[out + c * pitch + y * row + x] = (value - reals[mean + c]) / reals[std + c]


@compiled
def _conv(s, maps, work, reals, doubles, offsets, part, parts):
    """A convolution of real numbers: a padded copy in double, summed at stride 1 as one flat run, then picked from."""
    x, pitch, row, height, width, groups, inside = s[1], s[2], s[3], s[4], s[5], s[6], s[7]
    out, out_pitch, out_row, out_height, out_width, outside = s[8], s[9], s[10], s[11], s[12], s[13]
    first, count, stride_y, stride_x, top, left = s[14], s[15], s[16], s[17], s[18], s[19]
    weight, bias, tall, wide, length, room = s[20], s[21], s[22], s[23], s[24], s[25]
    sums = room - 4 * length  # the scratch: padded inputs of one group, then the sums of four filters
    last = -1
    o = groups * outside * part // parts
    end = groups * outside * (part + 1) // parts
    while o < end:
        group = o // outside
        if group != last:
            last = group
            work[:sums] = 0
            for c in range(inside):
                for i in range(max(0, top), min(height, tall + top)):
                    at = (c * tall + i - top) * wide - left
                    source = x + (group * inside + c) * pitch + i * row
                    for j in range(max(0, left), min(width, wide + left)):
                        work[at + j] = maps[source + j]
        rows = min(4, (group + 1) * outside - o, end - o)
        own = weight + o * count
        for pixel in range(0, length, 2 * DOUBLES):
            if rows == 4:
                _real4(work, pixel, offsets, first, first + count, doubles, own, count, sums + pixel, length)
            else:
                for r in range(rows):
                    to = sums + r * length + pixel
                    _real1(work, pixel, offsets, first, first + count, doubles, own + r * count, count, to, length)
        for r in range(rows):
            more = np.float64(reals[bias + o + r]) if bias >= 0 else 0.0
            for i in range(out_height):
                source = sums + r * length + i * stride_y * wide
                target = out + (o + r) * out_pitch + i * out_row
                for j in range(out_width):
                    maps[target + j] = np.float32(work[source + j * stride_x] + more)
        o += rows


@compiled
def _affine(s, maps, reals, part, parts):
    x, out, pitch, channels, length, scale, shift = s[1], s[2], s[3], s[4], s[5], s[6], s[7]
    for c in range(channels * part // parts, channels * (part + 1) // parts):
        a, b = np.float64(reals[scale + c]), np.float64(reals[shift + c])
        source, target = maps[x + c * pitch : x + c * pitch + length], maps[out + c * pitch : out + c * pitch + length]
        for i in range(length):
            target[i] = np.float32(source[i] * a + b)


@compiled
def _prelu(s, maps, reals, part, parts):
    x, out, pitch, channels, length, slope = s[1], s[2], s[3], s[4], s[5], s[6]
    for c in range(channels * part // parts, channels * (part + 1) // parts):
        a = reals[slope + c]
        source, target = maps[x + c * pitch : x + c * pitch + length], maps[out + c * pitch : out + c * pitch + length]
        for i in range(length):
            target[i] = source[i] if source[i] > 0 else source[i] * a


@compiled
def _clip(s, maps, limits, part, parts):
    x, out, pitch, channels, length, low = s[1], s[2], s[3], s[4], s[5], s[6]
    least, most = limits[low], limits[low + 1]
    for c in range(channels * part // parts, channels * (part + 1) // parts):
        source, target = maps[x + c * pitch : x + c * pitch + length], maps[out + c * pitch : out + c * pitch + length]
        for i in range(length):
            target[i] = min(max(source[i], least), most)


@compiled
def _add(s, maps, part, parts):
    x, y, out, pitch, channels, length = s[1], s[2], s[3], s[4], s[5], s[6]
    for c in range(channels * part // parts, channels * (part + 1) // parts):
        one, other = maps[x + c * pitch : x + c * pitch + length], maps[y + c * pitch : y + c * pitch + length]
        target = maps[out + c * pitch : out + c * pitch + length]
        for i in range(length):
            target[i] = one[i] + other[i]


@compiled
def _copy(s, maps, part, parts):
    """Move a map: to its place in a concatenation, shuffled, with other row lengths, or flattened."""
    x, pitch, row, out, out_pitch, out_row, channels, height, width, shuffle = (
        s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9], s[10]
    )  # fmt: skip
    for c in range(channels * part // parts, channels * (part + 1) // parts):
        target = out + _place(c, channels, shuffle) * out_pitch
        for i in range(height):
            for j in range(width):
                maps[target + i * out_row + j] = maps[x + c * pitch + i * row + j]


@compiled
def _pool(s, maps, lines, part, parts):
    """Max or mean over windows: combined at stride 1, tap by tap as flat runs, then picked from.

    Where windows reach over the edge (``tall`` > 0), the runs go over a padded copy, tall x wide.
    """
    x, pitch, row, height, width, channels = s[1], s[2], s[3], s[4], s[5], s[6]
    out, out_pitch, out_row, out_height, out_width = s[7], s[8], s[9], s[10], s[11]
    kernel_y, kernel_x, stride_y, stride_x, top, left, kind = s[12], s[13], s[14], s[15], s[16], s[17], s[18]
    tall, wide, length = s[19], s[20], s[21]
    middle = tall * wide + 8
    padded, found = lines[:middle], lines[middle : middle + length]
    seen_columns = lines[middle + length + 8 : middle + length + 8 + out_width]
    for j in range(out_width):
        first = j * stride_x + left
        seen_columns[j] = min(width, first + kernel_x) - max(0, first)
    padded[:] = np.float32(-np.inf) if kind == 0 else np.float32(0)
    for c in range(channels * part // parts, channels * (part + 1) // parts):
        source, start = maps, x + c * pitch
        if tall > 0:
            for i in range(min(height, tall + top)):
                at, place = (i - top) * wide - left, x + c * pitch + i * row
                for j in range(min(width, wide + left)):
                    padded[at + j] = maps[place + j]
            source, start = padded, 0
        found[:] = source[start : start + length]
        for tap in range(1, kernel_y * kernel_x):
            shift = start + tap // kernel_x * wide + tap % kernel_x
            if kind == 0:
                keep_larger(lines, middle, source, shift, length)
            else:
                seen = source[shift : shift + length]
                for i in range(length):
                    found[i] += seen[i]
        for i in range(out_height):
            line = found[i * stride_y * wide :]
            target = maps[out + c * out_pitch + i * out_row : out + c * out_pitch + i * out_row + out_width]
            if stride_x == 2:
                for j in range(out_width):
                    target[j] = line[2 * j]
            else:
                for j in range(out_width):
                    target[j] = line[j * stride_x]
            if kind == 1:
                first = i * stride_y + top
                rows = np.float32(min(height, first + kernel_y) - max(0, first))
                for j in range(out_width):
                    target[j] /= rows * seen_columns[j]
            elif kind == 2:
                for j in range(out_width):
                    target[j] /= np.float32(kernel_y * kernel_x)


@compiled
def _mean(s, maps, part, parts):
    x, pitch, row, height, width, channels, out = s[1], s[2], s[3], s[4], s[5], s[6], s[7]
    for c in range(channels * part // parts, channels * (part + 1) // parts):
        total = 0.0
        for i in range(height):
            for j in range(width):
                total += maps[x + c * pitch + i * row + j]
        maps[out + c] = np.float32(total / (height * width))


@compiled
def execute(
    steps, image, part, parts, counter, maps, codes, words, lines, sums, bytes_, work, reals, doubles, flips, limits,
    ids, offsets, tables, rows, pads,
):  # fmt: skip
    """Run a plan on one image, or one of several parts of it.

    ``maps``, ``codes``, ``words`` and ``counter`` (a zero) are shared by the parts; ``lines``, ``sums``,
    ``bytes_`` and ``work`` are each part's own. Parts run in as many threads at once and wait for each other after
    every step.
    """
    for index in range(len(steps)):
        s = steps[index]
        step = s[0]
        if step == BITCONV:
            _bitconv(s, maps, codes, sums, bytes_, reals, ids, offsets, tables, part, parts)
        elif step == QUANTIZE:
            _quantize(s, maps, codes, lines, reals, flips, pads, part, parts)
        elif step == ADD:
            _add(s, maps, part, parts)
        elif step == COPY:
            _copy(s, maps, part, parts)
        elif step == POOL:
            _pool(s, maps, lines, part, parts)
        elif step == CONV:
            _conv(s, maps, work, reals, doubles, offsets, part, parts)
        elif step == AFFINE:
            _affine(s, maps, reals, part, parts)
        elif step == PRELU:
            _prelu(s, maps, reals, part, parts)
        elif step == CLIP:
            _clip(s, maps, limits, part, parts)
        elif step == MEAN:
            _mean(s, maps, part, parts)
        elif step == BITLINEAR:
            _bitlinear(s, maps, words, rows, reals, part, parts)
        elif part == 0 and step == PACK:
            _pack(s, maps, words, reals, flips)
        elif part == 0 and step == IMAGE:
            _image(s, image, maps, reals)
        elif part == 0 and step == ZEROS:
            maps[s[1] : s[1] + s[2]] = 0
        if parts > 1:
            meet(counter, parts * (index + 1))
