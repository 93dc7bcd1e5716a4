(() => {
'use strict';
const { meta, packed, sprite: spriteUri } =
  JSON.parse(document.getElementById('recording').textContent);
const sprite = new Image();
const $ = (id) => document.getElementById(id);
const make = (tag, attributes, text) => {
  const node = Object.assign(document.createElement(tag), attributes || {});
  if (text !== undefined) node.textContent = text;
  return node;
};
const MOST_LISTED = 48;
const GREY = [168, 173, 181];
const total = meta.layers.reduce((sum, layer) => sum + layer.components.length, 0);
const starts = [];
meta.layers.reduce((sum, layer) => { starts.push(sum); return sum + layer.components.length; }, 0);
const last = meta.checkpoints.length - 1;
const kinds = meta.kinds.length;
const measures = meta.measures.length;
const state = { ready: false, index: last, kind: 0, measure: 0, selected: -1, playing: false,
  lastDrawMs: 0 };
let data = {};
let timer = 0;
const layers = [];

const rgb = (hex) => [1, 3, 5].map((place) => parseInt(hex.slice(place, place + 2), 16));
const colors = meta.colors.map(rgb);
const css = (color) => 'rgb(' + color.map(Math.round).join(',') + ')';
const mixed = (color, share) => GREY.map((grey, i) => grey + (color[i] - grey) * share);
const inked = (color) => (color[0] * 0.299 + color[1] * 0.587 + color[2] * 0.114 > 140
  ? '#16181c' : '#ffffff');
const percent = (share) => (share * 100).toFixed(1) + ' %';
const ink = () => getComputedStyle(document.body).color;

const place = () => state.index * kinds + state.kind;
const look = (component) => {
  const at = (place() * measures + state.measure) * total + component;
  const flags = data.flags[place() * total + component];
  return { value: data.value[at] / 255, label: data.cls[at], dead: Boolean(flags & 16),
    broken: Boolean(flags & 32), above: Boolean(flags & (1 << state.measure)) };
};
const colorOf = (component) => {
  const seen = look(component);
  return seen.dead || !seen.above ? GREY : mixed(colors[seen.label], 0.15 + 0.85 * seen.value);
};

const prepared = (canvas, width, height) => {
  const scale = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.style.height = height + 'px';
  }
  const context = canvas.getContext('2d');
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
};

const hatch = (context, x, y, side) => {
  context.save();
  context.beginPath();
  context.rect(x, y, side, side);
  context.clip();
  context.fillStyle = '#e4e6ea';
  context.fillRect(x, y, side, side);
  context.strokeStyle = '#5c626c';
  context.lineWidth = 1.5;
  context.beginPath();
  for (let offset = -side; offset < side; offset += 5) {
    context.moveTo(x + offset, y + side);
    context.lineTo(x + offset + side, y);
  }
  context.stroke();
  context.restore();
};

const arrange = (layer) => {
  const count = layer.count;
  const width = layer.canvas.clientWidth;
  const side = count <= 40 ? 34 : count <= 140 ? 27 : 22;
  layer.columns = Math.max(1, Math.min(count, Math.floor((width + 2) / (side + 2))));
  layer.side = side;
  layer.width = width;
  layer.height = Math.ceil(count / layer.columns) * (side + 2);
};

const drawLayer = (layer) => {
  arrange(layer);
  const context = prepared(layer.canvas, layer.width, layer.height);
  context.font = '600 ' + (layer.side > 30 ? 14 : 12) + 'px system-ui, sans-serif';
  context.textAlign = 'center';
  context.textBaseline = 'middle';
  for (let i = 0; i < layer.count; i += 1) {
    const [x, y] = corner(layer, i);
    const component = layer.start + i;
    const seen = look(component);
    if (seen.dead) {
      hatch(context, x, y, layer.side);
    } else {
      const color = colorOf(component);
      context.fillStyle = css(color);
      context.fillRect(x, y, layer.side, layer.side);
      if (seen.above) {
        context.fillStyle = inked(color);
        context.fillText(meta.marks[seen.label], x + layer.side / 2, y + layer.side / 2 + 1);
      }
    }
    if (component === state.selected) {
      context.strokeStyle = '#ffffff';
      context.lineWidth = 4;
      context.strokeRect(x + 2, y + 2, layer.side - 4, layer.side - 4);
      context.strokeStyle = '#000000';
      context.lineWidth = 2;
      context.strokeRect(x + 1, y + 1, layer.side - 2, layer.side - 2);
    }
  }
  const mean = meta.meanJ[state.index][state.kind][layer.number];
  layer.summary.textContent = layer.facts + ', mean J ' + mean.toFixed(3);
};
const corner = (layer, i) => [(i % layer.columns) * (layer.side + 2),
  Math.floor(i / layer.columns) * (layer.side + 2)];

const drawCurve = () => {
  const canvas = $('curve');
  const width = canvas.clientWidth;
  const height = 260;
  const context = prepared(canvas, width, height);
  const left = 40, right = width - 12, top = 12, bottom = height - 28;
  const x = (index) => (last ? left + (right - left) * index / last : (left + right) / 2);
  const y = (value) => bottom - (bottom - top) * value;
  context.font = '12px system-ui, sans-serif';
  context.textBaseline = 'middle';
  context.textAlign = 'right';
  for (const value of [0, 0.25, 0.5, 0.75, 1]) {
    context.strokeStyle = '#8884';
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(left, y(value));
    context.lineTo(right, y(value));
    context.stroke();
    context.fillStyle = ink();
    context.fillText(value.toFixed(2), left - 6, y(value));
  }
  context.textBaseline = 'top';
  const every = Math.max(1, Math.ceil(meta.checkpoints.length / Math.max(2, width / 90)));
  meta.checkpoints.forEach((name, index) => {
    if (index % every) return;
    context.textAlign = index === 0 && last ? 'left' : x(index) > right - 20 ? 'right' : 'center';
    context.fillText(name, x(index), bottom + 8);
  });
  context.strokeStyle = ink();
  context.setLineDash([3, 3]);
  context.beginPath();
  context.moveTo(x(state.index), top);
  context.lineTo(x(state.index), bottom);
  context.stroke();
  context.setLineDash([]);
  meta.layers.forEach((layer, number) => {
    context.strokeStyle = lines[number % lines.length];
    context.fillStyle = lines[number % lines.length];
    context.lineWidth = 2.5;
    context.setLineDash(number < lines.length ? [] : [6, 4]);
    context.beginPath();
    meta.meanJ.forEach((found, index) => {
      context.lineTo(x(index), y(found[state.kind][number]));
    });
    context.stroke();
    meta.meanJ.forEach((found, index) => {
      context.beginPath();
      context.arc(x(index), y(found[state.kind][number]), 3, 0, 7);
      context.fill();
    });
  });
  context.setLineDash([]);
};
const lines = ['#e69f00', '#56b4e9', '#009e73', '#cc79a7', '#0072b2', '#d55e00', '#999933',
  '#882255'];

const drawTile = (canvas, tile) => {
  const side = meta.side;
  canvas.width = side;
  canvas.height = side;
  canvas.getContext('2d').drawImage(sprite, (tile % 32) * side, Math.floor(tile / 32) * side,
    side, side, 0, 0, side, side);
};

const bar = (from, to, color) => {
  const track = make('div', { className: 'track' });
  const filled = make('div');
  filled.style.left = from * 100 + '%';
  filled.style.width = Math.max(0, to - from) * 100 + '%';
  filled.style.background = color;
  track.append(filled);
  return track;
};

const drawPanel = () => {
  const panel = $('panel');
  panel.replaceChildren();
  const layer = layers.find((one) => state.selected >= one.start
    && state.selected < one.start + one.count);
  if (!layer) {
    panel.append(make('h3', {}, 'One component'));
    panel.append(make('p', {}, 'Click a cell to see which classes drive it, and the images that '
      + 'drive it most. The arrow keys move the selection.'));
    return;
  }
  const channel = meta.layers[layer.number].components[state.selected - layer.start];
  const seen = look(state.selected);
  panel.append(make('h3', {}, layer.title + ', component ' + channel));
  const measure = meta.measures[state.measure];
  let text = measure[1] + ' ' + seen.value.toFixed(3) + ' for class ' + meta.classes[seen.label];
  if (seen.dead) text = 'Dead: its response is the same for every image.';
  else if (!seen.above) text += ', not above the level of permuted labels.';
  if (seen.broken) text += ' Some responses were not finite.';
  panel.append(make('p', {}, text));
  const at = (place() * total + state.selected) * meta.bars;
  const low = data.low[place() * total + state.selected];
  const high = data.high[place() * total + state.selected];
  const table = make('table');
  const head = make('tr');
  for (const text of ['', '', 'J', '', 'mean']) head.append(make('td', {}, text));
  table.append(head);
  for (let i = 0; i < meta.bars; i += 1) {
    const label = data.barClass[at + i];
    const informed = data.barJ[at + i] / 255;
    const share = data.barMean[at + i] / 255;
    const zero = high > low ? -low / (high - low) : 0;
    const row = make('tr');
    row.append(make('td', { className: 'name', title: meta.classes[label] },
      meta.marks[label] === meta.classes[label] ? meta.classes[label]
        : meta.marks[label] + ' ' + meta.classes[label]));
    const first = make('td', { className: 'wide' });
    first.append(bar(0, informed, meta.colors[label]));
    row.append(first, make('td', { className: 'number' }, informed.toFixed(2)));
    const second = make('td', { className: 'wide' });
    second.append(bar(Math.min(zero, share), Math.max(zero, share), '#7d8490'));
    const mean = low + share * (high - low);
    row.append(second, make('td', { className: 'number' }, mean.toPrecision(3)));
    table.append(row);
  }
  panel.append(table);
  if (meta.bars < meta.classes.length) {
    panel.append(make('small', {}, 'The ' + meta.bars + ' classes of the highest J.'));
  }
  panel.append(make('h4', {}, 'J over checkpoints'), drawHistory(panel));
  panel.append(make('h4', {}, 'Images that drive it most'));
  const tiles = make('div', { className: 'tiles' });
  for (let i = 0; i < meta.shown; i += 1) {
    const tile = data.top[(state.index * total + state.selected) * meta.shown + i];
    const figure = make('figure');
    const canvas = make('canvas');
    figure.append(canvas);
    if (tile === 0xffff) {
      canvas.width = 1;
      figure.append(make('figcaption', {}, 'not kept'));
    } else {
      drawTile(canvas, tile);
      const said = meta.classes[data.said[state.index * meta.tiles.length + tile]];
      const truth = meta.classes[data.truth[tile]];
      const known = meta.kinds.includes('true');
      figure.append(make('figcaption', {}, !known || said === truth ? said
        : truth + ', predicted as ' + said));
      canvas.setAttribute('role', 'img');
      canvas.setAttribute('aria-label', 'image ' + meta.tiles[tile]);
    }
    tiles.append(figure);
  }
  panel.append(tiles);
};

const drawHistory = (panel) => {
  const canvas = make('canvas');
  const width = panel.clientWidth - 36;
  const context = prepared(canvas, width, 70);
  const x = (index) => (last ? 4 + (width - 8) * index / last : width / 2);
  const y = (value) => 64 - 58 * value;
  context.strokeStyle = '#8886';
  context.strokeRect(0.5, 0.5, width - 1, 69);
  context.strokeStyle = '#0072b2';
  context.lineWidth = 2;
  context.beginPath();
  const points = meta.checkpoints.map((_, index) => {
    const at = ((index * kinds + state.kind) * measures) * total + state.selected;
    return [x(index), y(data.value[at] / 255), data.cls[at]];
  });
  points.forEach(([px, py]) => context.lineTo(px, py));
  context.stroke();
  points.forEach(([px, py, label], index) => {
    context.fillStyle = meta.colors[label];
    context.strokeStyle = ink();
    context.lineWidth = index === state.index ? 2 : 0.5;
    context.beginPath();
    context.arc(px, py, index === state.index ? 5 : 4, 0, 7);
    context.fill();
    context.stroke();
  });
  return canvas;
};

const draw = () => {
  if (!state.ready) return;
  const begun = performance.now();
  $('time').value = state.index;
  const accuracy = meta.accuracies[state.index];
  $('when').textContent = 'checkpoint ' + (state.index + 1) + ' of ' + (last + 1) + ': '
    + meta.checkpoints[state.index] + (accuracy === null ? '' : ', accuracy ' + percent(accuracy));
  layers.forEach(drawLayer);
  drawCurve();
  drawPanel();
  state.lastDrawMs = performance.now() - begun;
};

const stop = () => {
  clearInterval(timer);
  state.playing = false;
  $('play').textContent = 'Play';
  $('play').setAttribute('aria-pressed', 'false');
};
const play = () => {
  state.playing = true;
  $('play').textContent = 'Pause';
  $('play').setAttribute('aria-pressed', 'true');
  if (state.index === last) { state.index = 0; draw(); }
  timer = setInterval(() => {
    if (state.index >= last) { stop(); return; }
    state.index += 1;
    draw();
  }, 600);
};

const select = (component) => { state.selected = component; draw(); };

const build = () => {
  $('time').max = last;
  meta.layers.forEach((found, number) => {
    const box = make('div', { className: 'layer' });
    const title = make('h3', {}, found.title);
    const summary = make('small');
    title.append(summary);
    const canvas = make('canvas', { tabIndex: 0 });
    canvas.setAttribute('aria-label', 'components of ' + found.title
      + '; arrow keys select one');
    box.append(title, canvas);
    $('layers').append(box);
    const count = found.components.length;
    const layer = { number, title: found.title, canvas, summary, start: starts[number], count,
      facts: count === found.channels ? count + ' components'
        : count + ' of ' + found.channels + ' components' };
    layers.push(layer);
    canvas.addEventListener('click', (event) => {
      const box = canvas.getBoundingClientRect();
      const column = Math.floor((event.clientX - box.left) / (layer.side + 2));
      const row = Math.floor((event.clientY - box.top) / (layer.side + 2));
      const i = row * layer.columns + column;
      if (column < layer.columns && i < count) select(layer.start + i);
    });
    canvas.addEventListener('keydown', (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -layer.columns,
        ArrowDown: layer.columns }[event.key];
      if (!step) return;
      event.preventDefault();
      const inside = state.selected >= layer.start && state.selected < layer.start + count;
      const next = inside ? state.selected + step : layer.start;
      if (next >= layer.start && next < layer.start + count) select(next);
    });
  });
  meta.kinds.forEach((kind, number) => {
    const label = make('label', { className: 'choice' });
    const radio = make('input', { type: 'radio', name: 'kind', value: number,
      checked: number === 0 });
    radio.addEventListener('change', () => { state.kind = number; draw(); });
    label.append(radio, kind + ' labels');
    $('kinds').append(label);
  });
  meta.measures.forEach(([, name], number) => {
    $('measure').append(make('option', { value: number }, name));
  });
  const explain = () => {
    $('about').textContent = 'A cell is a component. Hue and letter: the class that drives it '
      + 'most. Saturation: how selectively, by ' + meta.measures[state.measure][2] + '.';
  };
  $('measure').addEventListener('change', (event) => {
    state.measure = Number(event.target.value);
    explain();
    draw();
  });
  explain();
  $('time').addEventListener('input', (event) => {
    stop();
    state.index = Number(event.target.value);
    draw();
  });
  $('play').addEventListener('click', () => (state.playing ? stop() : play()));
  $('curve').addEventListener('click', (event) => {
    const box = $('curve').getBoundingClientRect();
    const share = (event.clientX - box.left - 40) / (box.width - 52);
    stop();
    state.index = Math.max(0, Math.min(last, Math.round(share * last)));
    draw();
  });
  listClasses();
  const ramp = make('span');
  const strip = make('i', { className: 'ramp' });
  strip.style.background = 'linear-gradient(90deg,' + css(mixed(colors[0], 0.15)) + ','
    + meta.colors[0] + ')';
  ramp.append('little', strip, 'fully selective');
  const grey = make('span');
  const plain = make('i');
  plain.style.background = css(GREY);
  grey.append(plain, 'not above the level of permuted labels');
  const dead = make('span');
  const canvas = make('canvas', { width: 22, height: 22 });
  canvas.style.width = '22px';
  hatch(canvas.getContext('2d'), 0, 0, 22);
  dead.append(canvas, 'dead: the same response to every image');
  $('legend').append(ramp, grey, dead);
  if (meta.classes.length > 12) {
    $('legend').append(make('span', {}, 'Colours repeat after 12 classes; the mark in the cell '
      + 'tells which.'));
  }
  meta.layers.forEach((layer, number) => {
    const entry = make('span');
    const swatch = make('i');
    swatch.style.height = '4px';
    swatch.style.background = lines[number % lines.length];
    entry.append(swatch, layer.title);
    $('curveLegend').append(entry);
  });
};

const listClasses = () => {
  const uses = new Map();
  if (meta.classes.length > MOST_LISTED) {
    data.cls.forEach((label, at) => {
      const flags = data.flags[Math.floor(at / (measures * total)) * total + at % total];
      const above = flags & (1 << Math.floor(at / total) % measures);
      if (above && !(flags & 16)) uses.set(label, (uses.get(label) || 0) + 1);
    });
  } else {
    meta.classes.forEach((_, label) => uses.set(label, 1));
  }
  const listed = [...uses].sort((a, b) => b[1] - a[1]).slice(0, MOST_LISTED)
    .map(([label]) => label).sort((a, b) => a - b);
  listed.forEach((label) => {
    const name = meta.classes[label];
    const entry = make('span');
    const swatch = make('i', {}, meta.marks[label]);
    swatch.style.background = meta.colors[label];
    swatch.style.color = inked(colors[label]);
    entry.append(swatch, meta.marks[label] === name ? '' : name);
    $('legend').append(entry);
  });
  if (listed.length < meta.classes.length) {
    $('legend').append(make('span', {}, 'The ' + listed.length + ' of ' + meta.classes.length
      + ' classes that drive the most components.'));
  }
};

const unpack = async () => {
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
  const buffer = await new Response(stream).arrayBuffer();
  const types = { Uint8Array, Uint16Array, Float32Array };
  for (const [name, [type, start, size]] of Object.entries(meta.arrays)) {
    data[name] = new types[type](buffer, start, size);
  }
};

const begin = async () => {
  sprite.src = spriteUri;
  try {
    await Promise.all([unpack(), sprite.decode()]);
  } catch (error) {
    $('about').textContent = 'This browser cannot unpack the page (' + error + '); Chromium 80, '
      + 'Firefox 113 and Safari 16.4, and later ones, can.';
    return;
  }
  build();
  state.ready = true;
  draw();
  window.addEventListener('resize', draw);
};

// For scripts and tests that drive the page.
window.tuning = Object.assign(state, {
  colorOf: (component) => css(colorOf(component)),
  look,
  cell: (component) => {
    const layer = layers.find((one) => component >= one.start
      && component < one.start + one.count);
    const box = layer.canvas.getBoundingClientRect();
    const [x, y] = corner(layer, component - layer.start);
    return [box.left + x + layer.side / 2, box.top + y + layer.side / 2, layer.side];
  },
});
begin();
})();
