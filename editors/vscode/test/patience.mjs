// Waiting for something to happen, and never for time to pass.

const PATIENCE_MS = 60_000;

/** Resolve with what `found()` returns once that is true, asked at each `event` of `emitter`. */
export function patiently(emitter, event, what, found, context, patienceMs = PATIENCE_MS) {
  return new Promise((resolve, reject) => {
    const look = () => {
      let result;
      try {
        result = found();
      } catch (error) {
        finish(reject, error);
        return;
      }
      if (result) {
        finish(resolve, result);
      }
    };
    const giveUp = () =>
      finish(reject, new Error(`${what} did not happen in ${patienceMs} ms\n${context()}`));
    const timer = setTimeout(giveUp, patienceMs);
    const finish = (settle, value) => {
      clearTimeout(timer);
      emitter.off(event, look);
      settle(value);
    };
    emitter.on(event, look);
    look();
  });
}
