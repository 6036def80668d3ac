/**
 * What the back end cases use of `node:assert/strict`, for pages, which have none of it. The test beside it holds it to
 * the verdicts of the original.
 *
 * @module
 */

/** What `rejects` may ask of an error: each property equal, or matched by a regular expression. */
type Expected = Record<string, unknown>;

function fail(message: string): never {
  throw new Error(message);
}

function ok(value: unknown, message = `${value} is not true`): void {
  if (!value) fail(message);
}

function equal(actual: unknown, expected: unknown, message = `${actual} is not ${expected}`): void {
  if (!Object.is(actual, expected)) fail(message);
}

function deepEqual(actual: unknown, expected: unknown, message?: string): void {
  if (!isSame(actual, expected)) fail(message ?? `${JSON.stringify(actual)} is not ${JSON.stringify(expected)}`);
}

async function rejects(promise: Promise<unknown> | (() => Promise<unknown>), expected: Expected): Promise<void> {
  let error: unknown;
  try {
    await (typeof promise === "function" ? promise() : promise);
  } catch (cause) {
    error = cause;
  }
  if (error === undefined) fail("nothing was thrown");
  for (const [name, wanted] of Object.entries(expected)) {
    const current = (error as Expected)[name];
    const fits = wanted instanceof RegExp ? wanted.test(String(current)) : isSame(current, wanted);
    if (!fits) fail(`${name} of the error is ${current}, not ${wanted}`);
  }
}

function isSame(actual: unknown, expected: unknown): boolean {
  if (Object.is(actual, expected)) return true;
  if (typeof actual !== "object" || typeof expected !== "object" || actual === null || expected === null) return false;
  if (Object.getPrototypeOf(actual) !== Object.getPrototypeOf(expected)) return false;
  const [ours, theirs] = [Object.keys(actual), Object.keys(expected)];
  return ours.length === theirs.length &&
    theirs.every((key) => Object.hasOwn(actual, key) && isSame((actual as Expected)[key], (expected as Expected)[key]));
}

/** Under the names of the original. */
export const browserAssert = { deepEqual, equal, fail, ok, rejects };
