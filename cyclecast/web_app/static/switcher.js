/* Which renderer is active. Another one is prepared while the active one goes on, and takes over when it is ready. */

import {Renderer} from "./renderer.js";

const POOL_SIZE = 2;               // the active one, and the one before: a way back without a wait
const LOSSES_ALLOWED = 3, LOSS_WINDOW = 60000;  // a GPU that is lost more often within these ms is given up

export class Switcher {
  /* onactive(renderer), onchange(), onfailed(plan, error) */
  constructor(listeners) {
    Object.assign(this, listeners, {active: null, wanted: null, pool: [], losses: []});
  }

  async select(plan) {
    this.wanted = plan;
    if (this.active?.plan.key === plan.key) this.trim();
    else await this.prepare(this.pool.find(renderer => renderer.plan.key === plan.key) ?? this.open(plan));
    this.onchange();
  }

  /* Replaces the active renderer by a fresh one of the same model, path and size. */
  async renew() {
    if (!this.active || this.isRenewing) return;
    this.isRenewing = true;
    try { await this.prepare(this.open(this.active.plan)); } finally { this.isRenewing = false; }
  }

  open(plan) {
    const renderer = new Renderer(plan, this.active !== null);
    renderer.onlost = reason => this.recover(renderer, reason);
    this.pool.push(renderer);
    return renderer;
  }

  async prepare(renderer) {
    const {plan} = renderer, isWanted = () => this.wanted?.key === plan.key;
    this.trim(renderer);
    this.onchange();
    try { await renderer.ready; } catch (error) {
      if (!this.pool.includes(renderer)) return;  // it was closed: nobody waits for it any more
      this.drop(renderer);
      if (!isWanted()) return;
      this.wanted = this.active?.plan ?? null;
      return this.onfailed(plan, error);
    }
    if (!isWanted()) return;
    this.active = renderer;
    this.onactive(renderer);
    this.trim();
  }

  /* A renderer has lost its GPU, or its model has failed. One that is being prepared is left to `prepare`. */
  recover(renderer, reason) {
    if (!this.pool.includes(renderer) || !renderer.isReady) return;
    this.drop(renderer);
    if (renderer !== this.active) return;
    this.onactive(this.active = null);
    if (this.wanted?.key !== renderer.plan.key) return;  // another one is on its way
    const now = performance.now();
    this.losses = [...this.losses.filter(time => now - time < LOSS_WINDOW), now];
    if (this.losses.length <= LOSSES_ALLOWED) return this.prepare(this.open(renderer.plan));
    this.wanted = null;
    this.onfailed(renderer.plan, new Error(`it failed several times, ${reason}`));
  }

  drop(renderer) {
    this.pool = this.pool.filter(other => other !== renderer);
    renderer.close();
  }

  /* Closes what nobody waits for any more, and the oldest of the rest. */
  trim(newest = this.active) {
    const keep = renderer => renderer === newest || renderer === this.active;
    for (const renderer of this.pool) if (!keep(renderer) && !renderer.isReady) this.drop(renderer);
    for (const renderer of this.pool) {
      const isStale = renderer !== newest && renderer !== this.active && renderer.plan.key === newest?.plan.key;
      if (!keep(renderer) && (this.pool.length > POOL_SIZE || isStale)) this.drop(renderer);
    }
  }
}
