// peer.mjs - one generation by llama.cpp through node-llama-cpp, timed; prints one line of JSON.
//
// usage: node peer.mjs MODEL PROMPT_FILE NEW_TOKENS CONTEXT THREADS [lazy]
//        node peer.mjs            (loads the library alone: what it costs without a model)
//
// Greedy, past the end of the turn. Prefill is the time to the first token, which is evaluated
// with the prompt; decode the time of those after it: the same split as doppler's.
import {readFileSync} from "node:fs";
import {getLlama, LlamaLogLevel} from "node-llama-cpp";

const [modelPath, promptFile, newTokens, contextSize, threads, lazy] = process.argv.slice(2);

function processBytes(name) {
    const line = readFileSync("/proc/self/status", "utf8").split("\n").find((l) => l.startsWith(name));
    return Number(line.match(/\d+/)[0]) * 1024;
}

const llama = await getLlama({
    gpu: false, build: "never", progressLogs: false, logLevel: LlamaLogLevel.error,
    maxThreads: Number(threads ?? 1)
});
const report = {engine: "llama.cpp", release: llama.llamaCppRelease?.release ?? null};

if (modelPath) {
    const begin = performance.now();
    const model = await llama.loadModel({modelPath, useMmap: true, lazyMode: lazy === "lazy"});
    const context = await model.createContext({
        contextSize: Number(contextSize), batchSize: 512, threads: Number(threads), sequences: 1
    });
    const tokens = model.tokenize(readFileSync(promptFile, "utf8"));
    if (model.tokens.shouldPrependBosToken)
        tokens.unshift(model.tokens.bos);

    const times = [performance.now()];
    const made = [];
    const stream = context.getSequence().evaluate(tokens, {temperature: 0, yieldEogToken: true});
    for await (const token of stream) {
        times.push(performance.now());
        made.push(token);
        if (made.length >= Number(newTokens))
            break;
    }
    const prefillMs = times[1] - times[0];
    const decodeMs = times.at(-1) - times[1];
    Object.assign(report, {
        load_ms: times[0] - begin,
        prompt_tokens: tokens.length,
        new_tokens: made.length,
        prefill_tok_s: 1000 * tokens.length / prefillMs,
        decode_tok_s: made.length > 1 ? 1000 * (made.length - 1) / decodeMs : 0,
        text: model.detokenize(made),
        uses_mmap: model.useMmap
    });
}
Object.assign(report, {peak_bytes: processBytes("VmHWM"), anon_bytes: processBytes("RssAnon")});
process.stdout.write(JSON.stringify(report) + "\n");
process.exit(0);
