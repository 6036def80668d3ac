import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { openImageFolder } from "../../lib/images/folder.ts";
import { openImages } from "../../lib/images/open.ts";
import { selectImages } from "../../lib/images/select.ts";

/** Runs `test` in a folder with these files, each holding the text beside it; the folder is removed afterwards. */
async function withFiles(files: Record<string, string>, test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "sparsight-test-"));
  try {
    for (const [name, text] of Object.entries(files)) {
      await mkdir(dirname(join(folder, name)), { recursive: true });
      await writeFile(join(folder, name), text);
    }
    await test(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

function names(source: Awaited<ReturnType<typeof openImageFolder>>): string[] {
  return Array.from({ length: source.nImages }, (_, i) => source.info(i).name);
}

const FILES = {
  "dog/b.png": "dog b",
  "dog/a.JPG": "dog a!",
  "dog/.hidden.png": "no",
  "dog/notes.txt": "no",
  "cat/new/c.webp": "cat c",
  "cat/z.gif": "cat z",
  "top.tiff": "top",
  ".git/d.png": "no",
  "png": "a file called png is none",
};

Deno.test("openImageFolder() lists images by class, files before sub-folders", async () => {
  await withFiles(FILES, async (folder) => {
    const source = await openImageFolder(folder);
    assert.deepEqual(names(source), ["top.tiff", "cat/z.gif", "cat/new/c.webp", "dog/a.JPG", "dog/b.png"]);
    assert.deepEqual([0, 1, 2, 3].map((i) => source.info(i).label), [undefined, "cat", "cat", "dog"]);
    assert.deepEqual(source.info(2), { imageIndex: 2, name: "cat/new/c.webp", label: "cat", tags: {} });
    assert.deepEqual(await source.read(3), new TextEncoder().encode("dog a!"));
    assert.equal(source.kind, "folder");
    assert.equal(source.location, folder);
  });
});

Deno.test("openImageFolder() looks only for the extensions asked for", async () => {
  await withFiles(FILES, async (folder) => {
    assert.deepEqual(names(await openImageFolder(folder, { extensions: ["gif"] })), ["cat/z.gif"]);
  });
});

Deno.test("openImageFolder() changes its fingerprint with names and sizes, not with the place", async () => {
  const fingerprint = async (files: Record<string, string>) => {
    let result = "";
    await withFiles(files, async (folder) => {
      result = (await openImageFolder(folder)).fingerprint;
    });
    return result;
  };
  const first = await fingerprint({ "a.png": "1", "b.png": "22" });
  assert.match(first, /^[0-9a-f]{64}$/);
  assert.equal(await fingerprint({ "a.png": "1", "b.png": "22", "c.txt": "" }), first);
  assert.notEqual(await fingerprint({ "a.png": "1", "b.png": "333" }), first);
  assert.notEqual(await fingerprint({ "a.png": "1", "c.png": "22" }), first);
});

Deno.test("openImageFolder() follows links, and not in a circle", async () => {
  await withFiles({ "cat/a.png": "a" }, async (folder) => {
    try {
      await symlink(folder, join(folder, "cat", "back"), "dir");
      await symlink(join(folder, "cat"), join(folder, "kitten"), "dir");
      await symlink(join(folder, "nowhere.png"), join(folder, "broken.png"));
    } catch {
      return; // links need a privilege on Windows
    }
    assert.deepEqual(names(await openImageFolder(folder)), ["cat/a.png", "kitten/a.png"]);
  });
});

Deno.test("openImageFolder() says what is wrong with the path", async () => {
  await withFiles({ "empty/readme.md": "", "file.png": "x" }, async (folder) => {
    const cases = [
      ["gone", "the folder does not exist"],
      ["file.png", "it is a file, not a folder"],
      ["empty", "it holds no images, looked for files ending in png, jpg, jpeg, webp, gif, avif, tif, tiff"],
    ];
    for (const [name, message] of cases) {
      const path = join(folder, name);
      await assert.rejects(openImageFolder(path), {
        name: "Error",
        message: `Cannot open image folder "${path}": ${message}`,
      });
    }
  });
});

Deno.test("openImageFolder() refuses an index outside the folder", async () => {
  await withFiles({ "a.png": "a" }, async (folder) => {
    const source = await openImageFolder(folder);
    const error = {
      name: "RangeError",
      message: "Cannot read image: imageIndex must be an integer from 0 to 0, current value is 1",
    };
    assert.throws(() => source.info(1), error);
    await assert.rejects(source.read(1), error);
  });
});

Deno.test("openImageFolder() stops when asked to", async () => {
  await withFiles({ "a.png": "a" }, async (folder) => {
    await assert.rejects(openImageFolder(folder, { signal: AbortSignal.abort() }), { name: "AbortError" });
  });
});

Deno.test("selectImages() keeps the indices of the whole source", async () => {
  await withFiles(FILES, async (folder) => {
    const source = await openImageFolder(folder);
    assert.deepEqual(selectImages(source, ({ label }) => label === "dog"), [3, 4]);
    assert.deepEqual(selectImages(source, () => false), []);
  });
});

Deno.test("openImages() opens a folder, and refuses what is neither folder nor Arrow file", async () => {
  await withFiles({ "a.png": "a", "b.zip": "b" }, async (folder) => {
    assert.equal((await openImages(folder)).kind, "folder");
    assert.deepEqual((await readdir(folder)).sort(), ["a.png", "b.zip"]);
    const zip = join(folder, "b.zip");
    await assert.rejects(openImages(zip), {
      name: "Error",
      message: `Cannot open images "${zip}": it must be a folder or a file that ends in .arrow`,
    });
    const gone = join(folder, "gone.arrow");
    await assert.rejects(openImages(gone), {
      name: "Error",
      message: `Cannot open images "${gone}": there is no folder or file of that name`,
    });
  });
});
