/**
 * Records into the folder given first, and hangs at the image given second: `resume_test.ts` kills it there. Says on
 * stdout how many images are done.
 *
 * @module
 */
import process from "node:process";
import { writeShards } from "../../lib/shards/write.ts";
import { openPictures, openSmallVit, smallOptions } from "./recordings.ts";

const [directory, stallAt] = process.argv.slice(2);
const pictures = await openPictures();
const stalling = {
  ...pictures,
  read: (imageIndex: number) =>
    imageIndex === Number(stallAt) ? new Promise<Uint8Array>(() => {}) : pictures.read(imageIndex),
};
// A promise alone does not keep the process alive.
setInterval(() => {}, 1000);
await writeShards(await openSmallVit(), stalling, {
  ...smallOptions(directory),
  onProgress: (done) => console.log(`${done} done`),
});
