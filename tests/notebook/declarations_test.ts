/**
 * tslab checks cells with TypeScript 5.0 and no DOM types. Where it does not understand a declaration of the built
 * package, it does not complain: the type turns into `any`. Here the same compiler looks at every export.
 *
 * @module
 */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { createRequire } from "node:module";
import * as path from "node:path";
import { buildPackage, repositoryRoot } from "../../scripts/build.ts";

/** The part of the compiler's interface that is used. */
interface TypeScript {
  version: string;
  readonly TypeFlags: { Any: number };
  readonly SymbolFlags: { Alias: number; Value: number };
  readonly ModuleKind: { CommonJS: number };
  readonly ModuleResolutionKind: { Node10: number };
  readonly ScriptTarget: { ES2022: number };
  createProgram(files: string[], options: Record<string, unknown>): Program;
  flattenDiagnosticMessageText(message: unknown, newLine: string): string;
}

interface Program {
  getTypeChecker(): {
    getSymbolAtLocation(node: unknown): unknown;
    getExportsOfModule(module: unknown): TypeSymbol[];
    getAliasedSymbol(symbol: TypeSymbol): TypeSymbol;
    getTypeOfSymbolAtLocation(symbol: TypeSymbol, node: unknown): { flags: number };
    getDeclaredTypeOfSymbol(symbol: TypeSymbol): { flags: number };
  };
  getSourceFile(file: string): unknown;
  getSourceFiles(): { fileName: string }[];
  getSemanticDiagnostics(file: unknown): { messageText: unknown }[];
}

interface TypeSymbol {
  readonly name: string;
  readonly flags: number;
}

/** The compiler inside tslab, which is a dependency of a dependency. */
function loadTypeScript(): TypeScript {
  const tslab = fs.realpathSync(path.join(repositoryRoot, "node_modules", "tslab", "package.json"));
  return createRequire(tslab)("@tslab/typescript-for-tslab");
}

/** Names of the browser's types that tslab has not: `any` is right there, the values come from elsewhere anyway. */
const browserTypes = /Cannot find name '(GPU\w*|Document|HTML\w*|SVG\w*|Node|Element|Blob|File|ImageData|Worker)'/;

Deno.test("the built package means the same to the TypeScript of tslab", async () => {
  await buildPackage(repositoryRoot, { log: () => {} });
  const ts = loadTypeScript();
  assert.match(ts.version, /^5\.0\./);
  const entry = path.join(repositoryRoot, "dist", "mod.d.ts");
  const program = ts.createProgram([entry], {
    module: ts.ModuleKind.CommonJS,
    moduleResolution: ts.ModuleResolutionKind.Node10,
    target: ts.ScriptTarget.ES2022,
    lib: ["lib.es2022.d.ts"],
    typeRoots: [path.join(fs.realpathSync(path.join(repositoryRoot, "node_modules", "tslab")), "..", "@types")],
    types: ["node"],
    esModuleInterop: true,
    noEmit: true,
  });

  const dist = path.join(repositoryRoot, "dist") + path.sep;
  const problems: string[] = [];
  for (const file of program.getSourceFiles().filter(({ fileName }) => path.normalize(fileName).startsWith(dist))) {
    for (const { messageText } of program.getSemanticDiagnostics(file)) {
      const text = ts.flattenDiagnosticMessageText(messageText, "\n");
      if (!browserTypes.test(text)) problems.push(`${path.relative(dist, file.fileName)}: ${text}`);
    }
  }
  assert.deepEqual(problems, []);

  const checker = program.getTypeChecker();
  const module = program.getSourceFile(entry);
  const symbols = checker.getExportsOfModule(checker.getSymbolAtLocation(module));
  assert.ok(symbols.length > 0, "mod.ts must export something");
  const untyped = symbols.filter((symbol) => {
    const target = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
    const type = target.flags & ts.SymbolFlags.Value
      ? checker.getTypeOfSymbolAtLocation(target, module)
      : checker.getDeclaredTypeOfSymbol(target);
    return (type.flags & ts.TypeFlags.Any) !== 0;
  });
  assert.deepEqual(untyped.map(({ name }) => name), []);
});
