import assert from "node:assert/strict";
import { expandSweep, parseSweep } from "../../lib/runs/sweep_config.ts";

Deno.test("expandSweep() makes every combination of a grid, then the list", () => {
  const config = {
    recipe: "saev-top-k",
    d_sae: 64,
    grid: { k: [2, 4], learning_rate: [0.001, 0.01] },
    runs: [{ name: "relu", recipe: "saev" }, { d_sae: 32, seed: 7 }],
  };
  const grid = { recipe: "saev-top-k", dSae: 64 };
  assert.deepEqual(expandSweep(config), [
    { ...grid, k: 2, learningRate: 0.001, name: "k=2,learning_rate=0.001" },
    { ...grid, k: 2, learningRate: 0.01, name: "k=2,learning_rate=0.01" },
    { ...grid, k: 4, learningRate: 0.001, name: "k=4,learning_rate=0.001" },
    { ...grid, k: 4, learningRate: 0.01, name: "k=4,learning_rate=0.01" },
    { recipe: "saev", dSae: 64, name: "relu" },
    { recipe: "saev-top-k", dSae: 32, seed: 7, name: "d_sae=32,seed=7" },
  ]);
});

Deno.test("expandSweep() says what is wrong with a configuration", () => {
  const wrong = (config: unknown, name: string, message: RegExp) =>
    assert.throws(() => expandSweep(config), { name, message });
  wrong([1], "TypeError", /^Cannot read sweep: the configuration must be an object, current value is \[1\]$/);
  wrong({ d_sae: 4 }, "RangeError", /^Cannot read sweep: there must be a grid or runs, there is neither$/);
  wrong({ d_sae: 4, grid: { k: 3 } }, "TypeError", /^Cannot read sweep: k must be a list, current value is 3$/);
  wrong({ grid: { k: [3] } }, "TypeError", /^Cannot read sweep: d_sae must be given for every run$/);
  wrong(
    { d_sae: "4", grid: { k: [3] } },
    "TypeError",
    /^Cannot read sweep: d_sae must be a number, current value is "4"$/,
  );
  wrong(
    { d_sae: 4, grid: { kk: [3] } },
    "TypeError",
    /^Cannot read sweep: names must be among .*, current value is kk$/,
  );
  wrong(
    { d_sae: 4, runs: [{ recipe: "fast" }] },
    "RangeError",
    /^Cannot read sweep: recipe must be one of top-k, .*, current value is fast$/,
  );
});

Deno.test("expandSweep() names the file, and refuses values of the wrong kind and empty lists", () => {
  const wrong = (config: unknown, name: string, message: string) =>
    assert.throws(() => expandSweep(config, { file: "s.toml" }), { name, message: `Cannot read s.toml: ${message}` });
  wrong(
    { d_sae: 4, k: [2, 3], grid: { seed: [0] } },
    "TypeError",
    "k must be a number, current value is [2,3]; lists of values go into the grid",
  );
  wrong({ d_sae: 4, runs: [{ name: 3 }] }, "TypeError", "name must be a string, current value is 3");
  wrong({ d_sae: 4, grid: { k: [] } }, "RangeError", "k of the grid must have a value or more, it has none");
  wrong({ d_sae: 4, grid: { k: ["2"] } }, "TypeError", 'k must be a number, current value is "2"');
  wrong({ d_sae: 4, runs: [7] }, "TypeError", "run 1 must be an object, current value is 7");
  wrong({ d_sae: 4, runs: {} }, "TypeError", "runs must be a list, current value is {}");
  wrong(
    { grid: { constructor: [] } },
    "TypeError",
    "names must be among name, grid, runs, recipe, d_sae, k, epochs, batch_size, learning_rate, dead_after_tokens, " +
      "k_aux, aux_weight, seed, current value is constructor",
  );
});

Deno.test("parseSweep() reads TOML as it reads JSON, by the ending of the file", () => {
  const toml = `
    # What all runs share.
    recipe = "saev-top-k"
    d_sae = 1_536

    [grid] # every combination
    k = [2, 4]
    learning_rate = [1e-3, 0.01]

    [[runs]]
    name = "relu"
    recipe = "saev"

    [[runs]]
    d_sae = 32
    seed = 7
  `;
  const json = {
    recipe: "saev-top-k",
    d_sae: 1536,
    grid: { k: [2, 4], learning_rate: [0.001, 0.01] },
    runs: [{ name: "relu", recipe: "saev" }, { d_sae: 32, seed: 7 }],
  };
  const runs = parseSweep(toml, { file: "some/sweep.toml" });
  assert.deepEqual(runs, expandSweep(json));
  assert.deepEqual(parseSweep(JSON.stringify(json), { file: "sweep.json" }), runs);
  assert.deepEqual(parseSweep(JSON.stringify(json)), runs);
  assert.deepEqual(runs.map(({ name }) => name), [
    ...["k=2,learning_rate=0.001", "k=2,learning_rate=0.01", "k=4,learning_rate=0.001", "k=4,learning_rate=0.01"],
    ...["relu", "d_sae=32,seed=7"],
  ]);
});

Deno.test("parseSweep() says where a file is torn, and what it may hold", () => {
  const wrong = (file: string, text: string, name: string, message: string) =>
    assert.throws(() => parseSweep(text, { file }), { name, message: `Cannot read ${file}: ${message}` });
  wrong("a.toml", "d_sae = 4\nk = \n", "SyntaxError", "it must be TOML, line 2, column 5: invalid value");
  wrong(
    "a.toml",
    "k = 1\n\n  k = 2",
    "SyntaxError",
    "it must be TOML, line 3, column 3: trying to redefine an already defined table or value",
  );
  const either = "it must be JSON, or by its ending TOML (.toml) or a module (.ts, .js), ";
  wrong("a.json", '{\n  "k": 1,\n}', "SyntaxError", `${either}line 3, column 1: expected double-quoted property name`);
  wrong("a.yaml", '{ "k": 1,\n ', "SyntaxError", `${either}line 2, column 2: expected double-quoted property name`);
  wrong("a.json", "[1", "SyntaxError", `${either}line 1, column 3: expected ',' or ']' after array element`);
  wrong("a.json", "", "SyntaxError", `${either}line 1, column 1: unexpected end of JSON input`);
  wrong(
    "a.toml",
    "d_sae = 4\nk = 2024-01-01\n[grid]\nseed = [1]",
    "TypeError",
    'k must be a number, current value is "2024-01-01"',
  );
  assert.throws(() => parseSweep("d_sae = 4\n[grid]\nkk = [1]", { file: "a.toml" }), {
    name: "TypeError",
    message: /^Cannot read a\.toml: names must be among name, grid, runs, recipe, d_sae, .*, current value is kk$/,
  });
});
