/* Sends the newest frame of the source to the active renderer and shows what comes back. One frame is on its way at a time. */

export class Player {
  /* look: {split, strength, isMirrored}, which others change. onshown({ms, isZeroCopy}, renderer), onfailed(error) */
  constructor(canvas, look, listeners) {
    Object.assign(this, listeners, {canvas, look, source: null, renderer: null});
    Object.assign(this, {isDue: false, isBusy: false, isPaused: false, isRepaintDue: false, sent: 0, shown: 0, painted: 0});
    this.context = canvas.getContext("bitmaprenderer");
  }

  setSource(source) {
    this.source?.close();
    this.source = source;
    this.setPaused(false);
    source.watch(() => { if (source === this.source && !this.isPaused) this.restyle(); });
  }

  setRenderer(renderer) {
    if (this.renderer) this.renderer.onrepainted = null;
    this.renderer = renderer;      // null: there is none for now
    if (!renderer) return;
    renderer.onrepainted = bitmap => this.show(bitmap);
    this.restyle();
  }

  setPaused(isPaused) {
    this.isPaused = isPaused;
    if (isPaused) this.isDue = false;
    this.source?.setPaused?.(isPaused);
  }

  restyle() {                      // a new frame, or the same one in another way
    this.isDue = true;
    this.advance();
  }

  repaint() {                      // with another split or strength; once for all changes until the next screen refresh
    if (this.isRepaintDue) return;
    this.isRepaintDue = true;
    requestAnimationFrame(() => {
      this.isRepaintDue = false;
      this.renderer?.repaint({...this.look});
    });
  }

  async advance() {
    if (this.isBusy || !this.isDue || !this.renderer || !this.source) return;
    this.isBusy = true;
    this.isDue = false;
    const {source, renderer} = this;
    try {
      const frame = await source.grab().catch(() => null);  // a video that is not ready yet
      if (frame) {
        this.canvas.dataset.sent = ++this.sent;
        const styled = await renderer.style(frame, {...this.look});
        this.shown++;
        this.show(styled.bitmap);
        this.onshown(styled, renderer);
      }
    } catch (error) {
      this.onfailed(error, renderer);
    } finally { this.isBusy = false; }
    this.advance();
  }

  show(bitmap) {
    const {width, height} = bitmap;
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, {width, height});
    this.context.transferFromImageBitmap(bitmap);
    this.painted++;
    this.onpainted?.(this.canvas);
  }
}
