// Whose study a DICOM file is of: read from the file on the person's own machine, sent nowhere and stored nowhere.

const WANTED = {
  "0008,0005": "charset", "0008,0020": "studyDate", "0008,0030": "studyTime", "0008,0060": "modality",
  "0008,1030": "study", "0010,0010": "patient", "0010,0020": "id", "0010,0030": "born", "0010,0040": "sex",
  "0018,5101": "view",
};
const LONG = new Set(["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"]);
const READ = 262_144; // bytes; patient and study stand near the beginning
const CHARSETS = {
  "ISO_IR 192": "utf-8", "ISO_IR 100": "iso-8859-1", "ISO_IR 101": "iso-8859-2", "ISO_IR 144": "iso-8859-5",
  "ISO_IR 127": "iso-8859-6", "ISO_IR 126": "iso-8859-7", "ISO_IR 13": "shift_jis", GB18030: "gb18030", GBK: "gbk",
  "ISO 2022 IR 87": "iso-2022-jp", "ISO 2022 IR 149": "euc-kr",
};

/**
 * Read patient and study of a DICOM file, or null where it has none that can be read here.
 * @param {File} file
 * @returns {Promise<object | null>}  texts by what they are: patient, id, born, sex, study, studyDate, modality, view
 */
export async function studyHeader(file) {
  const bytes = new Uint8Array(await file.slice(0, READ).arrayBuffer());
  const mark = String.fromCharCode(...bytes.subarray(128, 132)) === "DICM";
  try {
    const raw = elements(bytes, mark ? 132 : 0, mark);
    if (!raw) return null;
    const charset = (raw.charset ? plain(raw.charset, "iso-8859-1") : "").split("\\").filter(Boolean).pop();
    const decoder = CHARSETS[charset] ?? "iso-8859-1";
    const header = Object.fromEntries(Object.entries(raw).map(([key, value]) => [key, plain(value, decoder)]));
    if (header.patient) header.patient = header.patient.split("=")[0].replaceAll("^", " ").trim();
    for (const key of ["studyDate", "born"]) {
      if (/^\d{8}$/.test(header[key] ?? "")) header[key] = header[key].replace(/(....)(..)(..)/, "$1-$2-$3");
    }
    return header;
  } catch {
    return null; // cut, deflated or damaged
  }
}

const plain = (value, charset) => new TextDecoder(charset).decode(value).replace(/\0/g, "").trim();

/** Walk the data elements (PS3.5, section 7.1) up to the pixels' description. */
function elements(bytes, start, mark) {
  const view = new DataView(bytes.buffer);
  const found = {};
  let [explicit, little] = [mark || /^[A-Z]{2}$/.test(String.fromCharCode(bytes[start + 4], bytes[start + 5])), true];
  let at = start;
  let inMeta = mark;
  while (at + 8 <= bytes.length) {
    if (inMeta && view.getUint16(at, true) !== 2) {
      inMeta = false;
      explicit = found.syntax !== "1.2.840.10008.1.2";
      little = found.syntax !== "1.2.840.10008.1.2.2";
      if (found.syntax === "1.2.840.10008.1.2.1.99") return null; // deflated
    }
    const [group, element] = [view.getUint16(at, little), view.getUint16(at + 2, little)];
    if (group >= 0x20 || (!inMeta && group < 8)) break;
    const vr = String.fromCharCode(bytes[at + 4], bytes[at + 5]);
    let length;
    if (!explicit) [length, at] = [view.getUint32(at + 4, little), at + 8];
    else if (LONG.has(vr)) [length, at] = [view.getUint32(at + 8, little), at + 12];
    else [length, at] = [view.getUint16(at + 6, little), at + 8];
    if (length === 0xffffffff) {
      at = behindSequence(view, at, little);
      continue;
    }
    const tag = [group, element].map((number) => number.toString(16).padStart(4, "0")).join(",");
    if (WANTED[tag]) found[WANTED[tag]] = bytes.subarray(at, at + length);
    if (tag === "0002,0010") found.syntax = plain(bytes.subarray(at, at + length), "iso-8859-1");
    at += length;
  }
  delete found.syntax;
  return Object.keys(found).length ? found : null;
}

/** Find the end of a sequence of undefined length: its delimiter, at the depth that it was opened. */
function behindSequence(view, at, little) {
  for (let depth = 1; at + 8 <= view.byteLength; ) {
    const [group, element] = [view.getUint16(at, little), view.getUint16(at + 2, little)];
    if (group === 0xfffe && element === 0xe0dd && view.getUint32(at + 4, little) === 0) {
      depth -= 1;
      at += 8;
      if (!depth) return at;
    } else {
      at += 2;
    }
  }
  throw new Error("The sequence has no end.");
}
