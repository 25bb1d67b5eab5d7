// The report's map: pan, zoom, and the polygons gliding from the cadaster to where they were moved.
(() => {
const D = JSON.parse(document.getElementById('vectors').textContent);
const bytes = t => Uint8Array.from(atob(t), c => c.charCodeAt(0)).buffer;
const before = new Int32Array(bytes(D.before)), delta = new Int16Array(bytes(D.delta));
const rings = new Uint32Array(bytes(D.rings)), polys = new Uint32Array(bytes(D.polygons));
const rows = new Uint32Array(bytes(D.rows)), sure = new Uint8Array(bytes(D.sure)), shift = new Float32Array(bytes(D.shift));
const seen = D.seen ? new Int32Array(bytes(D.seen)) : null, seenRings = D.seen ? new Uint32Array(bytes(D.seenRings)) : null;
const arrows = D.arrows ? new Float32Array(bytes(D.arrows)) : null;
const box = document.querySelector('.map'), canvas = box.querySelector('canvas'), g = canvas.getContext('2d');
const tip = box.querySelector('.tip'), ruler = box.querySelector('.scale'), $ = id => document.getElementById(id);
const picture = new Image(); picture.onload = () => draw(); picture.src = document.getElementById('overview').textContent.trim();
const F = D.fine, n = rows.length, bounds = new Float32Array(n * 4);
for (let p = 0; p < n; p++) {
  let b = [Infinity, Infinity, -Infinity, -Infinity];
  for (let i = rings[polys[p]]; i < rings[polys[p + 1]]; i++) for (const t of [0, 1]) {
    const x = (before[2 * i] + t * delta[2 * i]) / F, y = (before[2 * i + 1] + t * delta[2 * i + 1]) / F;
    b = [Math.min(b[0], x), Math.min(b[1], y), Math.max(b[2], x), Math.max(b[3], y)];
  }
  bounds.set(b, 4 * p);
}
let scale = 1, x0 = 0, y0 = 0, due = false;
const draw = () => { if (!due) { due = true; requestAnimationFrame(paint); } };
const fit = () => {
  scale = Math.min(canvas.clientWidth / D.width, (canvas.clientHeight - 70) / D.height) * 0.98;
  x0 = D.width / 2 - canvas.clientWidth / 2 / scale; y0 = D.height / 2 - (canvas.clientHeight - 60) / 2 / scale; draw();
};
const fill = () => {
  scale = Math.max(canvas.clientWidth / D.width, canvas.clientHeight / D.height);
  x0 = D.width / 2 - canvas.clientWidth / 2 / scale; y0 = D.height / 2 - canvas.clientHeight / 2 / scale; draw();
};
const goTo = (x, y, side) => {
  scale = Math.min(canvas.clientWidth, canvas.clientHeight - 70) / side;
  x0 = x - canvas.clientWidth / 2 / scale; y0 = y - (canvas.clientHeight - 60) / 2 / scale; draw();
};
const zoom = (f, cx, cy) => {
  const s = Math.min(Math.max(scale * f, 0.9 * Math.min(canvas.clientWidth / D.width, canvas.clientHeight / D.height)), 16);
  x0 += cx / scale - cx / s; y0 += cy / scale - cy / s; scale = s; draw();
};
const trace = (coords, extra, t, first, last) => {
  for (let r = first; r < last; r++) {
    const a = extra ? rings[r] : seenRings[r], b = extra ? rings[r + 1] : seenRings[r + 1];
    for (let i = a; i < b; i++) {
      const x = ((coords[2 * i] + (extra ? t * delta[2 * i] : 0)) / F - x0) * scale;
      const y = ((coords[2 * i + 1] + (extra ? t * delta[2 * i + 1] : 0)) / F - y0) * scale;
      i === a ? g.moveTo(x, y) : g.lineTo(x, y);
    }
  }
};
const outline = (colour, width) => {
  g.lineJoin = 'round'; g.strokeStyle = 'rgba(0,0,0,.45)'; g.lineWidth = width + 1.6; g.stroke();
  g.strokeStyle = colour; g.lineWidth = width; g.stroke();
};
function paint() {
  due = false;
  const ratio = window.devicePixelRatio || 1, w = canvas.clientWidth, h = canvas.clientHeight;
  if (canvas.width !== Math.round(w * ratio)) { canvas.width = Math.round(w * ratio); canvas.height = Math.round(h * ratio); }
  g.setTransform(ratio, 0, 0, ratio, 0, 0); g.fillStyle = '#20262d'; g.fillRect(0, 0, w, h);
  g.imageSmoothingQuality = 'high';
  if (picture.width) g.drawImage(picture, -x0 * scale, -y0 * scale, D.width * scale, D.height * scale);
  const t = $('t').value / 100, wide = Math.max(1.1, Math.min(2.4, scale * 1.6));
  const inView = [];
  for (let p = 0; p < n; p++)
    if (bounds[4 * p] < x0 + w / scale && bounds[4 * p + 2] > x0 && bounds[4 * p + 1] < y0 + h / scale && bounds[4 * p + 3] > y0) inView.push(p);
  if (seen && $('seen').checked) { g.beginPath(); trace(seen, false, 0, 0, seenRings.length - 1); g.fillStyle = 'rgba(255,210,63,.28)'; g.fill('evenodd'); outline('#ffd23f', wide * .8); }
  if ($('old').checked) { g.beginPath(); for (const p of inView) trace(before, true, 0, polys[p], polys[p + 1]); outline('#ff5a36', wide * .8); }
  if ($('new').checked) {
    const classes = $('sure').checked ? [[0, 128, '#ff4fd8'], [128, 192, '#ffffff'], [192, 256, '#19e3f5']] : [[0, 256, '#19e3f5']];
    for (const [low, high, colour] of classes) {
      g.beginPath(); for (const p of inView) if (sure[p] >= low && sure[p] < high) trace(before, true, t, polys[p], polys[p + 1]); outline(colour, wide);
    }
  }
  if (arrows && $('arrows').checked) {
    g.beginPath(); const k = D.stretch / D.gsd;
    for (let i = 0; i < arrows.length; i += 5) {
      const x = (arrows[i] - x0) * scale, y = (arrows[i + 1] - y0) * scale;
      if (x < -50 || y < -50 || x > w + 50 || y > h + 50) continue;
      const u = arrows[i + 2] * k * scale, v = -arrows[i + 3] * k * scale, a = Math.atan2(v, u), s = Math.min(7, Math.hypot(u, v) * .4);
      g.moveTo(x, y); g.lineTo(x + u, y + v); g.lineTo(x + u - s * Math.cos(a - .45), y + v - s * Math.sin(a - .45));
      g.moveTo(x + u, y + v); g.lineTo(x + u - s * Math.cos(a + .45), y + v - s * Math.sin(a + .45));
    }
    outline('#fff', 1.4);
  }
  const metres = 120 / scale * D.gsd, nice = [1, 2, 5].map(d => d * 10 ** Math.floor(Math.log10(metres))).filter(v => v <= metres).pop();
  ruler.innerHTML = nice >= 1000 ? nice / 1000 + ' km' : nice + ' m';
  const line = document.createElement('i'); line.style.width = nice / D.gsd * scale + 'px'; ruler.appendChild(line);
}
let drag = null;
canvas.addEventListener('pointerdown', e => { drag = [e.clientX, e.clientY, x0, y0]; canvas.setPointerCapture(e.pointerId); });
canvas.addEventListener('pointerup', () => { drag = null; });
canvas.addEventListener('pointermove', e => {
  const r = canvas.getBoundingClientRect(), x = x0 + (e.clientX - r.left) / scale, y = y0 + (e.clientY - r.top) / scale;
  if (drag) { x0 = drag[2] - (e.clientX - drag[0]) / scale; y0 = drag[3] - (e.clientY - drag[1]) / scale; draw(); }
  let best = -1, size = Infinity;
  for (let p = 0; p < n; p++) if (x > bounds[4 * p] && x < bounds[4 * p + 2] && y > bounds[4 * p + 1] && y < bounds[4 * p + 3]) {
    const area = (bounds[4 * p + 2] - bounds[4 * p]) * (bounds[4 * p + 3] - bounds[4 * p + 1]);
    if (area < size) { size = area; best = p; }
  }
  tip.style.display = best < 0 || drag ? 'none' : 'block';
  if (best >= 0) {
    tip.textContent = `row ${rows[best]} · ${D.status[best]} · ${shift[best].toFixed(2)} m · confidence ${(sure[best] / 255).toFixed(2)}`;
    tip.style.left = Math.min(e.clientX - r.left + 14, r.width - 320) + 'px'; tip.style.top = e.clientY - r.top + 16 + 'px';
  }
});
canvas.addEventListener('pointerleave', () => { tip.style.display = 'none'; });
canvas.addEventListener('dblclick', e => { const r = canvas.getBoundingClientRect(); zoom(2, e.clientX - r.left, e.clientY - r.top); });
canvas.addEventListener('wheel', e => {
  if (!e.ctrlKey && !e.metaKey) return;
  e.preventDefault(); const r = canvas.getBoundingClientRect(); zoom(Math.exp(-e.deltaY / 300), e.clientX - r.left, e.clientY - r.top);
}, {passive: false});
for (const id of ['old', 'new', 'seen', 'arrows', 'sure']) if ($(id)) $(id).addEventListener('change', draw);
$('t').addEventListener('input', draw);
$('in').onclick = () => zoom(1.6, canvas.clientWidth / 2, canvas.clientHeight / 2);
$('out').onclick = () => zoom(1 / 1.6, canvas.clientWidth / 2, canvas.clientHeight / 2);
$('fit').onclick = fit;
$('play').onclick = () => {
  const start = performance.now();
  const step = now => { const s = Math.min((now - start) / 1800, 1); $('t').value = 100 * (s < .5 ? 2 * s * s : 1 - 2 * (1 - s) ** 2); draw(); if (s < 1) requestAnimationFrame(step); };
  requestAnimationFrame(step);
};
for (const el of document.querySelectorAll('[data-x]')) el.onclick = () => {
  goTo(+el.dataset.x, +el.dataset.y, +el.dataset.side || 400); box.scrollIntoView({behavior: 'smooth', block: 'center'});
};
window.addEventListener('resize', () => { canvas.width = 0; draw(); });
Math.max(D.width, D.height) / Math.min(D.width, D.height) < 2.5 ? fill() : fit();
})();
