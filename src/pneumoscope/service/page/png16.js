// A PNG of 16 bits to its values: a browser's own decoder keeps 8 of them.

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

/**
 * Decode a gray PNG of 16 bits, not interlaced.
 * @param {Uint8Array} bytes
 * @returns {Promise<{width: number, height: number, codes: Uint16Array}>}
 */
export async function decodePng16(bytes) {
  if (SIGNATURE.some((byte, i) => bytes[i] !== byte)) throw new Error("Expected a PNG file.");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const packed = [];
  let [width, height] = [0, 0];
  for (let at = 8; at < bytes.length; ) {
    const length = view.getUint32(at);
    const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    const start = at + 8;
    if (kind === "IHDR") {
      [width, height] = [view.getUint32(start), view.getUint32(start + 4)];
      const [depth, colour, , , interlaced] = bytes.subarray(start + 8, start + 13);
      if (depth !== 16 || colour !== 0 || interlaced) throw new Error("Expected a gray PNG of 16 bits.");
    }
    if (kind === "IDAT") packed.push(bytes.subarray(start, start + length));
    at = start + length + 4;
  }
  const stream = new Blob(packed).stream().pipeThrough(new DecompressionStream("deflate"));
  const lines = new Uint8Array(await new Response(stream).arrayBuffer());
  return { width, height, codes: unfiltered(lines, width, height) };
}

/** Take back the filter of each line (PNG, section 9), in place, and put the bytes together. */
function unfiltered(lines, width, height) {
  const codes = new Uint16Array(width * height);
  const stride = 2 * width;
  let above = new Uint8Array(stride);
  for (let y = 0; y < height; y += 1) {
    const start = y * (stride + 1) + 1;
    const line = lines.subarray(start, start + stride);
    undo(lines[start - 1], line, above);
    for (let x = 0; x < width; x += 1) codes[y * width + x] = (line[2 * x] << 8) | line[2 * x + 1];
    above = line;
  }
  return codes;
}

function undo(filter, line, above) {
  for (let i = 0; i < line.length; i += 1) {
    const left = i > 1 ? line[i - 2] : 0;
    if (filter === 1) line[i] += left;
    else if (filter === 2) line[i] += above[i];
    else if (filter === 3) line[i] += (left + above[i]) >> 1;
    else if (filter === 4) line[i] += nearest(left, above[i], i > 1 ? above[i - 2] : 0);
  }
}

function nearest(left, up, corner) {
  const guess = left + up - corner;
  const [a, b, c] = [Math.abs(guess - left), Math.abs(guess - up), Math.abs(guess - corner)];
  if (a <= b && a <= c) return left;
  return b <= c ? up : corner;
}
