/**
 * A fixed number of things, each used by one caller at a time; those who come when all are taken wait in line. It is
 * what keeps two chunks of a batch under way on the device, and no more.
 *
 * @module
 */

/** Things to be taken in turn. */
export class Pool<T> {
  readonly #free: T[];
  readonly #waiting: ((item: T) => void)[] = [];
  /** All of them, whether taken or not. */
  readonly items: readonly T[];

  constructor(items: readonly T[]) {
    this.items = items;
    this.#free = [...items];
  }

  /**
   * Runs `body` with an item that nobody else has. `body` may call `free` before it ends, when it needs the item no more;
   * otherwise that is done for it, also where it throws.
   */
  async use<R>(body: (item: T, free: () => void) => Promise<R>): Promise<R> {
    const item = this.#free.shift() ?? await new Promise<T>((resolve) => this.#waiting.push(resolve));
    let taken = true;
    const free = () => {
      if (!taken) return;
      taken = false;
      const next = this.#waiting.shift();
      if (next) next(item);
      else this.#free.push(item);
    };
    try {
      return await body(item, free);
    } finally {
      free();
    }
  }
}

/** The results of all, once every one has ended; the first failure, if there is one. */
export async function settleAll<T>(promises: readonly Promise<T>[]): Promise<T[]> {
  const outcomes = await Promise.allSettled(promises);
  return outcomes.map((outcome) => {
    if (outcome.status === "rejected") throw outcome.reason;
    return outcome.value;
  });
}
