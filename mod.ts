/**
 * Sparse autoencoders on vision transformers: record a ViT's activations, turn them into latents, and see what lights
 * each latent up.
 *
 * ```ts ignore
 * import * as kit from "sparsight";
 *
 * const paths = kit.embeddedPaths();
 * const vit = await kit.openVit(paths.vit);
 * const images = await kit.openImages(paths.images);
 * await kit.writeShards(vit, images, { directory: "out/shards", layers: [3] });
 *
 * const shards = await kit.openShards("out/shards");
 * const sae = await kit.loadSae(paths.sae);
 * const backend = await kit.openBackend();
 * const { accumulated, source } = await kit.summarize(shards, sae, { backend, layer: 3 });
 * const summary = kit.viewSummary(accumulated, source);
 *
 * const gallery = kit.openGallery({ images, shards, sae, summary, backend });
 * await kit.show(await gallery.latentGrid(418));
 * await kit.show(kit.plotActivationHistogram(summary.latent(418)));
 * ```
 *
 * @module
 */

// What the kit brings along.
export { type EmbeddedPaths, embeddedPaths } from "./lib/embedded.ts";

// Images: where pictures come from and how they become pixels.
export type { ImageInfo, ImageSource } from "./lib/images/source.ts";
export { openImages } from "./lib/images/open.ts";
export { openImageFolder, type OpenImageFolderOptions } from "./lib/images/folder.ts";
export { openArrowImages } from "./lib/images/arrow.ts";
export { type ArrowImageRow, writeArrowImages, type WriteArrowImagesOptions } from "./lib/images/arrow_writer.ts";
export { selectImages } from "./lib/images/select.ts";
export { decodeImage, type DecodeImageOptions, readImage, type RgbColor, type RgbImage } from "./lib/images/decode.ts";
export { type ChannelTriple, CLIP_MEAN, CLIP_STD, HALF, IMAGENET_MEAN, IMAGENET_STD } from "./lib/images/channels.ts";
export {
  centerCropTransform,
  type CenterCropTransformOptions,
  type CropRule,
  type PixelTransform,
  pixelTransformFromConfig,
  type Resampling,
  type ResizeRule,
} from "./lib/images/transform.ts";
export {
  familyTransforms,
  patchGridTransform,
  type PatchGridTransformOptions,
  squashTransform,
  type SquashTransformOptions,
} from "./lib/images/family_transforms.ts";
export { pixelTransformFromOpenClipConfig, pixelTransformFromTimmConfig } from "./lib/images/torchvision_configs.ts";
export { cropForDisplay, type CropForDisplayOptions, toPixelValues } from "./lib/images/pixels.ts";
export { resampleImage, type ResampleImageOptions, type ResampleKernel } from "./lib/images/resample.ts";

// ViT: the residual stream.
export { type OpenLayersOptions, openVit, type OpenVitOptions, type Vit, type VitLayers } from "./lib/vit/vit.ts";
export { type HookPoint, hookPoints } from "./lib/vit/hooks.ts";
export { type GraphSigns, type SpecialToken, vitFamilies, type VitFamily } from "./lib/vit/families.ts";
export type { GeluKind } from "./lib/vit/gelu.ts";
export {
  type HookedLayer,
  type LayerNames,
  translateLayer,
  type TranslateLayerOptions,
} from "./lib/vit/layer_names.ts";
export { type ActivationBatch, recordActivations, type RecordOptions, type SkippedImage } from "./lib/vit/record.ts";

// Shards: activations on disk.
export type { RecordingInfo, RecordingMetadata, ShardEntry } from "./lib/shards/format.ts";
export { type ShardDtype, shardDtypes } from "./lib/shards/format.ts";
export { openSaevShards, type ReadSaevImagesOptions, type SaevShards } from "./lib/shards/saev.ts";
export { writeShards, type WriteShardsOptions } from "./lib/shards/write.ts";
export {
  openShards,
  type ReadBatchesOptions,
  type ShardBatch,
  type Shards,
  type TokenKind,
} from "./lib/shards/read.ts";

// Compute: where numbers are made.
export type {
  ActivationRule,
  Backend,
  ImageMaxima,
  InputNormalization,
  InputStatistics,
  LoadedSae,
  SaeWeights,
  SparseLatents,
} from "./lib/compute/contract.ts";
export { type BackendChoice, openBackend, type OpenBackendOptions } from "./lib/compute/select.ts";
export { type CpuBackendOptions, createCpuBackend } from "./lib/compute/cpu/backend.ts";
export { createWebGpuBackend, type WebGpuBackendOptions } from "./lib/compute/webgpu/backend.ts";
export type { EncodeTile, Precision } from "./lib/compute/webgpu/encode_kernel.ts";
export { type TuneOptions, type TuneSize, tuneWebGpu } from "./lib/compute/webgpu/tuner.ts";
export { GpuFailure, type GpuFailureReason } from "./lib/compute/webgpu/watch.ts";
export { describeAdapter, findGpuAdapter, type FindGpuAdapterOptions, isSoftwareAdapter } from "./lib/runtime/gpu.ts";

// The Hub: files that others published.
export {
  fetchHubFile,
  type HubFileInfo,
  type HubOptions,
  type HubSource,
  isHubSource,
  listHubFiles,
  parseHubSource,
  type ResolvedHubFile,
  resolveHubFile,
} from "./lib/hub/hub.ts";
// Public SAEs: where they are and what to beware of.
export {
  findPublicCheckpoint,
  findPublicSae,
  listPublicCheckpoints,
  type PublicBackbone,
  type PublicCheckpoint,
  type PublicSae,
  publicSaes,
  publicSaesFor,
  type PublishedNumbers,
} from "./lib/registry/registry.ts";

// SAE: dictionaries.
export { createSae, describeSae, type Sae, type SaeProvenance } from "./lib/sae/sae.ts";
export { loadSae } from "./lib/sae/load.ts";
export { saveSae } from "./lib/sae/save.ts";
export {
  type ConvertedSae,
  type ConvertOptions,
  convertSae,
  type ConvertTarget,
  convertTargets,
  droppableParts,
} from "./lib/sae/convert.ts";
export { foldInputBias, foldNormalization, type FoldNormalizationOptions } from "./lib/sae/fold.ts";
export {
  type Activations,
  type BatchesOptions,
  openActivations,
  type OpenActivationsOptions,
} from "./lib/sae/activations.ts";
export {
  type DensityBin,
  measureMetrics,
  type MeasureMetricsOptions,
  metricDefinitions,
  type Metrics,
  type MetricSpace,
  metricsTable,
  metricsToJson,
} from "./lib/sae/metrics/metrics.ts";
export type { MetricDefinition, MetricKey } from "./lib/sae/metrics/formula.ts";
export type { MeasuredBatch } from "./lib/sae/metrics/sums.ts";
export { measureReconstruction, type Reconstruction } from "./lib/sae/metrics/reconstruction.ts";
export {
  type ActivationVariant,
  type Candidate,
  type DiagnoseOptions,
  diagnoseSae,
  type Diagnosis,
  type ExpectedNumbers,
  type Verdict,
} from "./lib/sae/doctor/doctor.ts";
export type { NormalizationChoice, RuleChoice } from "./lib/sae/doctor/conventions.ts";
export type { TrialResult } from "./lib/sae/doctor/trial.ts";
export { fixNormalization } from "./lib/sae/fix_normalization.ts";
export {
  type ActivationStatistics,
  type ActivationStream,
  measureStatistics,
  normalizationFrom,
  sampleTokens,
  type SampleTokensOptions,
  type StatisticsNormalization,
  type StreamOptions,
} from "./lib/sae/statistics.ts";
export {
  findSidecar,
  type FindSidecarOptions,
  parseSidecar,
  type Sidecar,
  type SidecarRule,
  writeSidecar,
} from "./lib/sae/normalization_file.ts";
export type { CheckpointFormatName, DictionaryOptions } from "./lib/checkpoints/dictionary.ts";
export {
  openTensorFile,
  type ReadTensorOptions,
  type TensorDtype,
  type TensorEntry,
  type TensorFile,
} from "./lib/tensors/tensor_file.ts";
export { type NamedTensor, readSafetensors, writeSafetensors } from "./lib/tensors/safetensors.ts";
export { type NpyArray, type NpyData, readNpy } from "./lib/tensors/npy.ts";
export { type AppendRows, type NpyWriterDtype, writeNpy, type WriteNpyOptions } from "./lib/tensors/npy_writer.ts";
export { type AppendLatents, writeCsr, type WriteCsrOptions } from "./lib/tensors/csr_writer.ts";
export { writeSaev, type WriteSaevOptions } from "./lib/checkpoints/saev_writer.ts";
export { writeClipScope, type WriteClipScopeOptions } from "./lib/checkpoints/clip_scope_writer.ts";

// Train.
export {
  imageTokens,
  type ImageTokensOptions,
  type ReadTokensOptions,
  shardTokens,
  type ShardTokensOptions,
  type TokenSource,
} from "./lib/train/source.ts";
export { type TrainOptions, trainSae, type TrainStep } from "./lib/train/train.ts";
export { type RunStep, type TrainedRun, trainRun, type TrainRunOptions } from "./lib/runs/run.ts";
export { type SweepRun, type SweptRun, trainSweep, type TrainSweepOptions } from "./lib/runs/sweep.ts";
export type { SharedRunOptions } from "./lib/runs/train_together.ts";
export { expandSweep, parseSweep, type SweepConfigOptions } from "./lib/runs/sweep_config.ts";
export type { RecipeOptions } from "./lib/train/choose_recipe.ts";
export { makeTrainer, type Trainer } from "./lib/train/trainer.ts";
export type { TrainerOptions, TrainerState } from "./lib/train/start.ts";
export { type PresetName, presets } from "./lib/train/presets.ts";
export type {
  AuxK,
  BiasRise,
  DeadRule,
  ReconstructionLoss,
  TrainActivation,
  TrainInitialization,
  TrainInput,
  TrainOptimizer,
  TrainPrefixes,
  TrainRecipe,
  TrainSchedule,
} from "./lib/train/recipe.ts";
export type { ParameterName, Parameters } from "./lib/train/parameters.ts";
export type { FittedInput } from "./lib/train/center.ts";
export type { OptimizerState } from "./lib/train/optimizer.ts";
export type { AdamState } from "./lib/train/adam.ts";
export type { MuonState } from "./lib/train/muon.ts";

// Summary: one pass over all latents.
export { summarizeImages, type SummarizeImagesOptions } from "./lib/summary/summarize_images.ts";
export { mergeSummaries, summarize, type SummarizeOptions } from "./lib/summary/summarize.ts";
export { type BatchImages, SummaryAccumulator, type SummarySource } from "./lib/summary/accumulate.ts";
export { openSummary, saveSummary, type StoredSummary } from "./lib/summary/file.ts";
export {
  deadLatents,
  type HistogramBin,
  type LatentSummary,
  type Summary,
  type TopImage,
  viewSummary,
} from "./lib/summary/summary.ts";
export {
  collectHeatmaps,
  type CollectHeatmapsOptions,
  type Heatmaps,
  type LatentOnImage,
} from "./lib/summary/heatmaps.ts";

// Figures.
export { type Figure, saveFigure, type SaveFigureOptions, toPng, type ToPngOptions } from "./lib/figures/figure.ts";
export type { FigureOptions } from "./lib/figures/frame.ts";
export type { Colormap } from "./lib/figures/colormap.ts";
export {
  type ActivationHistogramOptions,
  type PercentilesOptions,
  plotActivationHistogram,
  plotPercentiles,
} from "./lib/figures/latent_plots.ts";
export {
  type DensityAgainstMeanOptions,
  type DensityHistogramOptions,
  type LatentDensities,
  plotDensityAgainstMean,
  plotDensityHistogram,
} from "./lib/figures/summary_plots.ts";
export { type GridCell, imageGrid, type ImageGridOptions } from "./lib/figures/grid.ts";
export { type HeatmapOptions, heatmapRgba } from "./lib/figures/heatmap.ts";
export { cutPatches, type CutPatchesOptions } from "./lib/figures/patches.ts";
export {
  type Gallery,
  type GalleryAtlasOptions,
  type GalleryParts,
  type LatentGridOptions,
  openGallery,
} from "./lib/figures/gallery.ts";
export { plotTraining, type TrainingPlotOptions, type TrainingRun } from "./lib/figures/training_plots.ts";
export type { HeldOutValues, TrainingField, TrainingPoint } from "./lib/figures/training_point.ts";
export { paretoFront, type ParetoPlotOptions, type ParetoRun, plotParetoFront } from "./lib/figures/pareto_plot.ts";
export { type TrainingReportOptions, writeTrainingReport } from "./lib/figures/training_report.ts";
export { writeAtlas, type WriteAtlasOptions, type WrittenAtlas } from "./lib/figures/atlas/atlas.ts";

// Notebook: show things where the code runs.
export {
  type LiveFigure,
  type LiveFigureOptions,
  type LiveTraining,
  liveTraining,
  type LiveTrainingOptions,
  openLiveFigure,
} from "./lib/notebook/live.ts";
export { type Display, openDisplay, show, type ShowOptions } from "./lib/notebook/display.ts";
export { Html, html, type MediaOptions } from "./lib/notebook/media.ts";
export {
  type Progress,
  type ProgressCallback,
  progressCallback,
  type ProgressOptions,
  trackProgress,
  withProgress,
} from "./lib/notebook/progress.ts";
export { type RuntimeName, runtimeName } from "./lib/notebook/screen.ts";
