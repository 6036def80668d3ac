/**
 * Reads single fields of a parsed JSON config, each checked: what is missing or of another type is named.
 *
 * @module
 */
import type { ChannelTriple } from "./channels.ts";

/** A parsed JSON object. */
export type Config = Readonly<Record<string, unknown>>;

/** Begins every message. */
export const READING = "Cannot read preprocessor config";

/** True or false; `byDefault` where the field is missing. */
export function flag(config: Config, field: string, byDefault: boolean): boolean {
  const value = config[field] ?? byDefault;
  if (typeof value === "boolean") return value;
  throw new TypeError(`${READING}: ${field} must be true or false, current value is ${show(value)}`);
}

/** A length of at least one whole pixel. */
export function pixels(value: unknown, field: string): number {
  if (typeof value !== "number") {
    throw new TypeError(`${READING}: ${field} must be a number of pixels, current value is ${show(value)}`);
  }
  if (Number.isInteger(value) && value >= 1) return value;
  throw new RangeError(`${READING}: ${field} must be an integer of at least 1, current value is ${value}`);
}

/** One number a channel. */
export function triple(config: Config, field: string): ChannelTriple {
  const value = config[field];
  if (Array.isArray(value) && value.length === 3 && value.every(Number.isFinite)) return [value[0], value[1], value[2]];
  throw new TypeError(`${READING}: ${field} must be three numbers, current value is ${show(value)}`);
}

/** One number above 0 a channel. */
export function positiveTriple(config: Config, field: string): ChannelTriple {
  const value = triple(config, field);
  if (value.every((number) => number > 0)) return value;
  throw new RangeError(`${READING}: ${field} must be three numbers above 0, current value is ${show(value)}`);
}

/** Whether a value is a JSON object. */
export function isRecord(value: unknown): value is Config {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A value as a message shows it. */
export function show(value: unknown): string {
  return JSON.stringify(value) ?? String(value);
}
