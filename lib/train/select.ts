/**
 * Picks the pre-activations that count out of the dense rows that the encoder hands over a few tokens at a time, so
 * that only those are kept.
 *
 * @module
 */

/** Picked pre-activations, in the order they were found: tokens ascend. */
export interface Entries {
  readonly length: number;
  readonly tokens: Uint32Array;
  readonly latents: Uint32Array;
  readonly values: Float32Array;
}

/**
 * Which pre-activations of a batch count: those above the floor of their latent, which is not negative; the `k` largest
 * of each token; or the `nKept` largest of all. With `relu` only those above zero.
 */
export type SelectionRule =
  | { readonly kind: "above"; readonly floors: Float32Array }
  | { readonly kind: "topK"; readonly k: number; readonly relu: boolean }
  | { readonly kind: "topOfBatch"; readonly nKept: number; readonly relu: boolean };

/** Takes rows of pre-activations, and says at the end which ones count. */
export interface Selection {
  /** @param h Shape `[nTokens, nLatents]`, tokens `firstToken` and on. */
  add(h: Float32Array, firstToken: number): void;
  finish(): Entries;
}

/** Begins to pick by a rule. */
export function openSelection(rule: SelectionRule, options: { nLatents: number }): Selection {
  if (rule.kind === "above") return selectAbove(rule.floors);
  return rule.kind === "topK" ? selectTopK({ ...rule, ...options }) : selectTopOfBatch({ ...rule, ...options });
}

/** A list of entries that grows. */
export class EntryList implements Entries {
  length = 0;
  tokens = new Uint32Array(1024);
  latents = new Uint32Array(1024);
  values = new Float32Array(1024);

  push(token: number, latent: number, value: number): void {
    if (this.length === this.values.length) this.grow();
    this.tokens[this.length] = token;
    this.latents[this.length] = latent;
    this.values[this.length++] = value;
  }

  /** Keeps the entries that `keep` says, in their order. */
  filter(keep: (value: number, entry: number) => boolean): void {
    let kept = 0;
    for (let i = 0; i < this.length; i++) {
      if (!keep(this.values[i], i)) continue;
      this.tokens[kept] = this.tokens[i];
      this.latents[kept] = this.latents[i];
      this.values[kept++] = this.values[i];
    }
    this.length = kept;
  }

  /**
   * Keeps the `n` largest; of equal ones the first.
   *
   * @returns The smallest value that is left, or -Infinity if there were no more than `n`.
   */
  keepLargest(n: number): number {
    if (this.length <= n) return -Infinity;
    const smallest = this.values.slice(0, this.length).sort()[this.length - n];
    let nEqual = n;
    for (let i = 0; i < this.length; i++) if (this.values[i] > smallest) nEqual--;
    this.filter((value) => value > smallest || (value === smallest && nEqual-- > 0));
    return smallest;
  }

  private grow(): void {
    const { tokens, latents, values } = this;
    this.tokens = new Uint32Array(2 * tokens.length);
    this.latents = new Uint32Array(2 * tokens.length);
    this.values = new Float32Array(2 * tokens.length);
    this.tokens.set(tokens);
    this.latents.set(latents);
    this.values.set(values);
  }
}

/** Index of the next number above `floor`, or `end`. Most are not, so this loop is where selecting spends its time. */
function nextAbove(h: Float32Array, from: number, end: number, floor: number): number {
  while (from < end && !(h[from] > floor)) from++;
  return from;
}

/** Every pre-activation above its latent's floor; shape of `floors`: `[nLatents]`. */
export function selectAbove(floors: Float32Array): Selection {
  const list = new EntryList();
  const nLatents = floors.length;
  const next = (h: Float32Array, start: number, latent: number): number => {
    while (latent < nLatents && !(h[start + latent] > floors[latent])) latent++;
    return latent;
  };
  return {
    add(h, firstToken) {
      for (let start = 0, token = firstToken; start < h.length; start += nLatents, token++) {
        for (let latent = next(h, start, 0); latent < nLatents; latent = next(h, start, latent + 1)) {
          list.push(token, latent, h[start + latent]);
        }
      }
    },
    finish: () => list,
  };
}

/** The `k` largest of each token; of equal ones the lower latents. With `relu` only those above zero. */
export function selectTopK(options: { k: number; relu: boolean; nLatents: number }): Selection {
  const { k, relu, nLatents } = options;
  const list = new EntryList();
  // A heap with the least wanted entry on top: the smallest value, of equal ones the highest latent.
  const values = new Float32Array(k);
  const latents = new Uint32Array(k);
  const isWorse = (a: number, b: number) =>
    values[a] < values[b] || (values[a] === values[b] && latents[a] > latents[b]);
  const swap = (a: number, b: number) => {
    const [value, latent] = [values[a], latents[a]];
    values[a] = values[b];
    latents[a] = latents[b];
    values[b] = value;
    latents[b] = latent;
  };
  const raiseLast = (last: number) => {
    for (let i = last; i > 0 && isWorse(i, (i - 1) >> 1); i = (i - 1) >> 1) swap(i, (i - 1) >> 1);
  };
  const sinkTop = (size: number) => {
    for (let i = 0;;) {
      const left = 2 * i + 1;
      if (left >= size) return;
      const child = left + 1 < size && isWorse(left + 1, left) ? left + 1 : left;
      if (!isWorse(child, i)) return;
      swap(i, child);
      i = child;
    }
  };
  return {
    add(h, firstToken) {
      for (let start = 0, token = firstToken; start < h.length; start += nLatents, token++) {
        let size = 0;
        let floor = relu ? 0 : -Infinity;
        const end = start + nLatents;
        for (let i = nextAbove(h, start, end, floor); i < end; i = nextAbove(h, i + 1, end, floor)) {
          const value = h[i];
          const latent = i - start;
          if (size < k) {
            values[size] = value;
            latents[size] = latent;
            raiseLast(size++);
          } else {
            values[0] = value;
            latents[0] = latent;
            sinkTop(size);
          }
          if (size === k) floor = values[0];
        }
        for (let i = 0; i < size; i++) list.push(token, latents[i], values[i]);
      }
    },
    finish: () => list,
  };
}

// The list is cut back to what can still count whenever it is this many times as long.
const SLACK = 4;

/** The `nKept` largest of the whole batch; of equal ones the first. With `relu` only those above zero. */
export function selectTopOfBatch(options: { nKept: number; relu: boolean; nLatents: number }): Selection {
  const { nKept, relu, nLatents } = options;
  const list = new EntryList();
  let floor = relu ? 0 : -Infinity;
  const cut = () => floor = Math.max(floor, list.keepLargest(nKept));
  return {
    add(h, firstToken) {
      for (let start = 0, token = firstToken; start < h.length; start += nLatents, token++) {
        const end = start + nLatents;
        for (let i = nextAbove(h, start, end, floor); i < end; i = nextAbove(h, i + 1, end, floor)) {
          list.push(token, i - start, h[i]);
        }
        if (list.length >= SLACK * nKept) cut();
      }
    },
    finish() {
      cut();
      return list;
    },
  };
}
