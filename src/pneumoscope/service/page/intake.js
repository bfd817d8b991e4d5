// Ways in: files, folders, zip archives; dropped, chosen or pasted.

import { isZip, unzip } from "./zip.js";

const PASSED_OVER = new Set(["dicomdir", "thumbs.db", "desktop.ini"]); // as the command passes over them in folders

/** The files of what was dropped: a file itself, or all below a folder, with their `path` from there. */
export async function filesOf(entry) {
  if (entry.isFile) return new Promise((resolve) => entry.file((file) => resolve([named(file, entry.fullPath)]), () => resolve([])));
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
    if (!some.length) return found.flat().filter(isWanted);
    found.push(...(await Promise.all(some.map(filesOf))));
  }
}

const named = (file, path) => Object.assign(file, { path: path.replace(/^\//, "") });

/** Whether a file of a folder or an archive may be an image, by its name. */
export const isWanted = ({ name }) => !name.startsWith(".") && !PASSED_OVER.has(name.toLowerCase());

/**
 * Unpack what archives there are among files; one that cannot be unpacked stays, so that it has a row that says so.
 * @param {File[]} files
 * @param {number} most  bytes of a file
 * @returns {Promise<File[]>}
 */
export async function unpackedAll(files, most) {
  const each = files.map(async (file) => {
    if (!(await isZip(file).catch(() => false))) return [file];
    return unzip(file, most).then((inside) => inside.filter(isWanted)).catch(() => [file]);
  });
  return (await Promise.all(each)).flat();
}
