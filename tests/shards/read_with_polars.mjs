/**
 * Opens the shard given with polars, by its path and by its bytes, and prints what polars sees as JSON.
 * Run with Node; SPARSIGHT_POLARS names the folder whose node_modules holds nodejs-polars.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.env.SPARSIGHT_POLARS, "package.json"));
const polars = require("nodejs-polars");
const path = process.argv[2];

// `readIPC(path)` takes any text that does not end in .ipc for the contents, so a shard is scanned, or given as bytes.
const tables = [polars.scanIPC(path).collectSync(), polars.readIPC(readFileSync(path))];
const seen = tables.map((table) => ({
  columns: table.columns,
  types: table.dtypes.map(String),
  values: table.columns.map((name) => table.getColumn(name).toArray()),
}));
console.log(JSON.stringify(seen));
