/**
 * Another process that fetches a file: `fetch_child.ts SOURCE CACHE_DIR HUB_URL` prints its path.
 *
 * @module
 */
import process from "node:process";
import { fetchHubFile } from "../../lib/hub/hub.ts";

const [source, cacheDir, hubUrl] = process.argv.slice(2);
console.log(await fetchHubFile(source, { cacheDir, hubUrl, token: "", offline: false }));
