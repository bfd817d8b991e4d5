// The evidence map: orange speaks for pneumonia, blue against it, no tint for neither.

// Apart with every common colour blindness, and of equal lightness, so that neither sign stands out for its brightness.
const TOWARDS_PNEUMONIA = [232, 108, 16];
const AGAINST = [15, 148, 250];
const SIDE = 192;

/** Whether the map is drawn unasked: where no pneumonia is seen, its tint would be read as a finding. */
export const isDrawn = (finding) => Boolean(finding?.evidence) && finding.finding === "PNEUMONIA";

/** Paint a map (h, w) smoothly onto a canvas of its own size, to be stretched over the image. */
export function paintEvidence(canvas, { cells, scale }) {
  const image = new ImageData(SIDE, SIDE);
  for (let y = 0; y < SIDE; y += 1) {
    for (let x = 0; x < SIDE; x += 1) {
      tint(image.data, 4 * (y * SIDE + x), between(cells, (x + 0.5) / SIDE, (y + 0.5) / SIDE) / scale);
    }
  }
  Object.assign(canvas, { width: SIDE, height: SIDE });
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/**
 * Outline what speaks for pneumonia with at least half of the strongest place's weight.
 * @returns {string}  the path of an SVG whose view box is the unit square; empty where nothing speaks for it
 */
export function outline({ cells }) {
  const n = 64;
  const at = (x, y) => between(cells, x / n, y / n);
  const field = Array.from({ length: n + 1 }, (_, y) => Array.from({ length: n + 1 }, (_, x) => at(x, y)));
  const half = Math.max(...field.flat()) / 2;
  if (half <= 0) return "";
  const beyond = (x, y) => x < 0 || y < 0 || x > n || y > n;
  const value = (x, y) => (beyond(x, y) ? -half : field[y][x] - half); // what touches the border is closed there
  const parts = [];
  for (let y = -1; y <= n; y += 1) {
    for (let x = -1; x <= n; x += 1) {
      const corners = [[x, y], [x + 1, y], [x + 1, y + 1], [x, y + 1]];
      const crossed = corners.flatMap((from, i) => {
        const to = corners[(i + 1) % 4];
        const [a, b] = [value(...from), value(...to)];
        if (a > 0 === b > 0) return [];
        const share = a / (a - b);
        const place = (k) => Math.min(1, Math.max(0, (from[k] + (to[k] - from[k]) * share) / n));
        return [`${place(0).toFixed(4)} ${place(1).toFixed(4)}`];
      });
      for (let i = 0; i + 1 < crossed.length; i += 2) parts.push(`M${crossed[i]}L${crossed[i + 1]}`);
    }
  }
  return parts.join("");
}

/** Paint the legend: from one full colour over none to the other. */
export function paintRamp(canvas) {
  const { width, height } = canvas;
  const context = canvas.getContext("2d");
  context.fillStyle = "#606060"; // the gray of a lung, so that the colours are those on the image
  context.fillRect(0, 0, width, height);
  const image = context.getImageData(0, 0, width, height);
  const over = document.createElement("canvas");
  Object.assign(over, { width, height });
  for (let x = 0; x < width; x += 1) {
    for (let y = 0; y < height; y += 1) tint(image.data, 4 * (y * width + x), (2 * (x + 0.5)) / width - 1);
  }
  over.getContext("2d").putImageData(image, 0, 0);
  context.globalAlpha = 0.8;
  context.drawImage(over, 0, 0);
}

/** Contribution at a place in [0, 1] x [0, 1]: straight lines between the centres of the cells. */
function between(cells, u, v) {
  const [top, bottom, down] = neighbours(v, cells.length);
  const [left, right, along] = neighbours(u, cells[0].length);
  const row = (y) => cells[y][left] * (1 - along) + cells[y][right] * along;
  return row(top) * (1 - down) + row(bottom) * down;
}

function neighbours(place, n) {
  const position = Math.min(n - 1, Math.max(0, place * n - 0.5));
  const first = Math.floor(position);
  return [first, Math.min(n - 1, first + 1), position - first];
}

function tint(data, at, unit) {
  data.set(unit > 0 ? TOWARDS_PNEUMONIA : AGAINST, at);
  data[at + 3] = 255 * Math.min(1, Math.abs(unit));
}
