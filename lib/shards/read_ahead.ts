/**
 * Reads a list of things in order, each while the caller still works on the one before.
 *
 * @module
 */

/** Options of {@linkcode readAhead}. */
export interface ReadAheadOptions {
  /** Stops between two things. */
  signal?: AbortSignal;
}

/**
 * What `read` gives of each key, in order; the next one is being read whenever one is handed out. A failure is thrown in
 * its turn, after all before it. Nothing is being read any more when it ends, however it ends.
 */
export async function* readAhead<Key, Value>(
  keys: Iterable<Key>,
  read: (key: Key) => Promise<Value>,
  { signal }: ReadAheadOptions = {},
): AsyncGenerator<Value> {
  const iterator = keys[Symbol.iterator]();
  const begin = () => {
    const { done, value } = iterator.next();
    if (done) return undefined;
    const reading = read(value);
    reading.catch(() => {}); // thrown where it is awaited
    return reading;
  };
  signal?.throwIfAborted();
  let next = begin();
  try {
    while (next !== undefined) {
      const value = await next;
      next = begin();
      yield value;
      signal?.throwIfAborted();
    }
  } finally {
    await next?.catch(() => {});
    iterator.return?.();
  }
}
