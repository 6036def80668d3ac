/**
 * Names of files on the Hugging Face Hub: `hf:owner/repository/path`, with `@revision` after the repository to pin one.
 * Only what is written this way is ever looked for on the Hub; everything else is a path of this machine.
 *
 * @module
 */

/** The parts of a name. */
export interface HubSource {
  /** Models have no prefix; data sets are named `hf:datasets/owner/repository/path`. */
  readonly kind: "model" | "dataset";
  /** `owner/repository`. */
  readonly repo: string;
  /** Branch, tag or commit; `undefined` is the branch `main`. */
  readonly revision: string | undefined;
  /** Path in the repository; empty for the repository itself. */
  readonly path: string;
}

const defaultRevision = "main";

/** Whether a source names something on the Hub. */
export function isHubSource(source: string): boolean {
  return source.startsWith("hf:");
}

/**
 * Takes a name apart. `hf://…`, as Python's file system for the Hub writes it, is the same as `hf:…`. A revision that
 * has a slash in it is written with `%2F`; `refs/pr/1` may stay as it is.
 *
 * @throws {TypeError} If it is not the name of a model or data set, or if its path leaves the repository.
 */
export function parseHubSource(source: string): HubSource {
  const fail = (required: string): never => {
    throw new TypeError(`Cannot use ${source}: ${required}`);
  };
  const form = "it must be of the form hf:owner/repository/path or hf:owner/repository@revision/path";
  if (!isHubSource(source)) fail(form);
  const [, prefix, rest] = source.match(/^hf:(?:\/\/)?(?:(models|datasets|spaces|buckets|kernels)\/)?(.*)$/s) ?? [];
  if (prefix && prefix !== "datasets" && prefix !== "models") {
    fail(`it must name a model or a data set, current kind is ${prefix}`);
  }
  const match = rest.match(/^([^/@]+\/[^/@]+)(?:@(refs\/[^/]+\/[^/]+|[^/]+))?(?:\/(.*))?$/s);
  if (match === null) return fail(form);
  const [, repo, encodedRevision, path = ""] = match;
  if (!/^\w[\w.-]*\/\w[\w.-]*$/.test(repo) || /--|\.\./.test(repo)) {
    fail(`owner and repository must be letters, digits, ".", "_" and "-", current value is ${repo}`);
  }
  const revision = encodedRevision && decodeRevision(encodedRevision);
  if (encodedRevision && !isSafePath(revision)) fail(`its revision must be a branch, tag or commit`);
  if (path !== "" && !isSafePath(path)) fail(`its path must stay within the repository, current value is ${path}`);
  return { kind: prefix === "datasets" ? "dataset" : "model", repo, revision: revision || undefined, path };
}

function decodeRevision(encoded: string): string | undefined {
  try {
    return decodeURIComponent(encoded);
  } catch {
    return undefined;
  }
}

// Paths and revisions become paths in the cache, here and, where the cache is shared, on Windows.
function isSafePath(path: string | undefined): boolean {
  // deno-lint-ignore no-control-regex
  return path !== undefined && !/[\\:\x00-\x1f]/.test(path) &&
    path.split("/").every((part) => part !== "" && part !== "." && part !== "..");
}

/** Writes a name; the inverse of {@linkcode parseHubSource}. */
export function formatHubSource(source: HubSource): string {
  const { kind, repo, revision, path } = source;
  const at = revision === undefined ? "" : `@${encodeURIComponent(revision)}`;
  return `hf:${kind === "dataset" ? "datasets/" : ""}${repo}${at}${path === "" ? "" : `/${path}`}`;
}

/** The revision that is meant: `main` if none is named. */
export function revisionOf(source: HubSource): string {
  return source.revision ?? defaultRevision;
}

/** Whether a revision is a whole commit, which never changes. */
export function isCommit(revision: string): boolean {
  return /^[0-9a-f]{40}$/.test(revision);
}

/** Encodes a path for a URL, leaving its slashes. */
export function encodePath(path: string): string {
  return path.split("/").map(encodeURIComponent).join("/");
}
