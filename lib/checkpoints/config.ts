/**
 * Configurations beside checkpoints, `config.json` and `cfg.json`: anything may be in them, so that each value is checked
 * where it is taken, by an error that names it.
 *
 * @module
 */

/** Values of a configuration, by name. */
export class CheckpointConfig {
  constructor(
    /** Everything that it says. */
    readonly values: Readonly<Record<string, unknown>>,
    /** What error messages call it, such as `"cfg.json"`. */
    readonly name: string,
  ) {}

  /** A value; `undefined` for what is missing or null. */
  get(key: string): unknown {
    return Object.hasOwn(this.values, key) ? this.values[key] ?? undefined : undefined;
  }

  /** An integer of 1 or more, if it is there. */
  integer(key: string): number | undefined {
    return this.#take(key, "an integer of 1 or more", (value) => Number.isSafeInteger(value) && (value as number) >= 1);
  }

  /** An index of 0 or more; anything else counts as missing, as nothing is computed from it. */
  index(key: string): number | undefined {
    const value = this.get(key);
    return Number.isSafeInteger(value) && (value as number) >= 0 ? value as number : undefined;
  }

  boolean(key: string): boolean | undefined {
    return this.#take(key, "true or false", (value) => typeof value === "boolean");
  }

  /** Text; anything else counts as missing, as nothing is computed from it. */
  text(key: string): string | undefined {
    const value = this.get(key);
    return typeof value === "string" ? value : undefined;
  }

  /** One of the allowed texts, if it is there. */
  oneOf<T extends string>(key: string, allowed: readonly T[]): T | undefined {
    return this.#take(key, `one of ${allowed.join(", ")}`, (value) => (allowed as readonly unknown[]).includes(value));
  }

  /** A configuration within this one, if it is there. */
  child(key: string): CheckpointConfig | undefined {
    const values = this.#take<Record<string, unknown>>(key, "a JSON object", isRecord);
    return values && new CheckpointConfig(values, `${key} in ${this.name}`);
  }

  #take<T>(key: string, required: string, isAllowed: (value: unknown) => boolean): T | undefined {
    const value = this.get(key);
    if (value === undefined || isAllowed(value)) return value as T | undefined;
    const shown = typeof value === "object" ? JSON.stringify(value).slice(0, 80) : String(value).slice(0, 80);
    throw new TypeError(`Cannot read SAE: ${key} in ${this.name} must be ${required}, current value is ${shown}`);
  }
}

/**
 * Reads a configuration.
 *
 * @throws {SyntaxError} If it is no JSON object.
 */
export function parseConfig(bytes: Uint8Array, name: string): CheckpointConfig {
  let values: unknown;
  try {
    values = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw new SyntaxError(`Cannot read SAE: ${name} must be JSON`, { cause: error });
  }
  if (!isRecord(values)) {
    const shown = JSON.stringify(values).slice(0, 40);
    throw new SyntaxError(`Cannot read SAE: ${name} must be a JSON object, current value is ${shown}`);
  }
  return new CheckpointConfig(values, name);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
