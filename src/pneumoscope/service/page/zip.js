// The files in a zip archive, read in the browser.

const END = 0x06054b50;
const ENTRY = 0x02014b50;
const MOST_FILES = 10_000;

/** Say whether a file begins as a zip archive does. */
export async function isZip(file) {
  const head = new Uint8Array(await file.slice(0, 4).arrayBuffer());
  return head[0] === 0x50 && head[1] === 0x4b && head[2] === 3 && head[3] === 4;
}

/**
 * Unpack an archive, without what operating systems add to it.
 * @param {File} archive
 * @param {number} most  bytes of a file; of a larger one that many and one more are given, so that it is told as too large
 * @returns {Promise<File[]>}  with their `path` in the archive
 */
export async function unzip(archive, most) {
  const tail = await view(archive, Math.max(0, archive.size - 65_557), archive.size);
  let end = tail.byteLength - 22;
  while (end >= 0 && tail.getUint32(end, true) !== END) end -= 1;
  if (end < 0) throw new Error("The zip archive is damaged: its list of files is missing.");
  const count = tail.getUint16(end + 10, true);
  const start = tail.getUint32(end + 16, true);
  if (count > MOST_FILES || start === 0xffffffff) throw new Error("The zip archive is too large: unpack it first.");
  const list = await view(archive, start, start + tail.getUint32(end + 12, true));
  const files = [];
  for (let at = 0, i = 0; i < count && at + 46 <= list.byteLength && list.getUint32(at, true) === ENTRY; i += 1) {
    const [nameLength, extra, comment] = [28, 30, 32].map((offset) => list.getUint16(at + offset, true));
    const path = new TextDecoder().decode(new Uint8Array(list.buffer, at + 46, nameLength));
    const entry = {
      name: path.split("/").pop(),
      encrypted: list.getUint16(at + 8, true) & 1,
      method: list.getUint16(at + 10, true),
      packed: list.getUint32(at + 20, true),
      offset: list.getUint32(at + 42, true),
    };
    at += 46 + nameLength + extra + comment;
    if (entry.name && !path.startsWith("__MACOSX/")) files.push(Object.assign(await unpacked(archive, entry, most), { path }));
  }
  return files;
}

async function unpacked(archive, { name, encrypted, method, packed, offset }, most) {
  const head = await view(archive, offset, offset + 30);
  const start = offset + 30 + head.getUint16(26, true) + head.getUint16(28, true);
  const bytes = archive.slice(start, start + packed);
  if (encrypted || (method !== 0 && method !== 8)) throw new Error("The zip archive is encrypted or packed in a rare way: unpack it first.");
  if (method === 0) return new File([bytes], name);
  const reader = bytes.stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
  const parts = [];
  for (let size = 0; size <= most; ) {
    const { done, value } = await reader.read();
    if (done) return new File(parts, name);
    parts.push(value);
    size += value.length;
  }
  reader.cancel().catch(() => {});
  return new File(parts, name);
}

async function view(file, start, end) {
  return new DataView(await file.slice(start, end).arrayBuffer());
}
