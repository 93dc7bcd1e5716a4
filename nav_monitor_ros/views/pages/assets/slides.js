'use strict';
for (const root of document.querySelectorAll('.slides')) {
  const { slides, pause } = JSON.parse(root.querySelector('script').textContent);
  const button = root.querySelector('button');
  const slider = root.querySelector('input');
  const label = root.querySelector('output');
  const pictures = root.querySelectorAll('img[data-slot]');
  let timer = 0;
  const show = (place) => {
    slider.value = place;
    label.textContent = slides[place].label;
    pictures.forEach((picture, slot) => { picture.src = slides[place].pictures[slot]; });
  };
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    button.textContent = 'Play';
    button.setAttribute('aria-pressed', 'false');
  };
  const play = () => {
    button.textContent = 'Pause';
    button.setAttribute('aria-pressed', 'true');
    timer = setInterval(() => show((Number(slider.value) + 1) % slides.length), pause);
  };
  slider.addEventListener('input', () => { stop(); show(Number(slider.value)); });
  button.addEventListener('click', () => (timer ? stop() : play()));
  show(Number(slider.value));
  root.querySelector('.controls').hidden = false;
}
