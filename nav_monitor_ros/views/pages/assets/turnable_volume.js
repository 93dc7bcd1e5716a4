(() => {
  'use strict';
  const notice = document.getElementById('not-drawn');
  const explain = (why) => {
    if (!notice.hidden) return; // the first reason is the one that explains the others
    notice.querySelector('span').textContent = why;
    notice.hidden = false;
  };
  if (!document.createElement('canvas').getContext('webgl2')) {
    explain('It needs WebGL 2, which is not available: switch on hardware acceleration, or try '
      + 'another browser.');
  }
  const failed = (event) => {
    if (!document.querySelector('canvas')) explain('It failed: ' + (event.message || event.reason));
  };
  window.addEventListener('error', failed);
  window.addEventListener('unhandledrejection', failed);
})();
