// The page that runs a model in ONNX Runtime Web. It fetches orders from the server that it came from and posts the
// answers. A message is the header's length (4 bytes, little-endian), the header as JSON, and the arrays' bytes.

const WORDS = [];  // what the library says on the console: where it puts the nodes, among others
for (const level of ['debug', 'log', 'info', 'warn', 'error']) {
  console[level] = (...words) => { WORDS.push(words.map(String).join(' ')); };
}

// By the names that numpy gives to dtypes; a browser without 16-bit floats takes their bits.
const KINDS = {
  '<f4': ['float32', Float32Array], '<f8': ['float64', Float64Array],
  '<f2': ['float16', globalThis.Float16Array ?? Uint16Array],
  '<i8': ['int64', BigInt64Array], '<i4': ['int32', Int32Array], '<i2': ['int16', Int16Array],
  '|i1': ['int8', Int8Array], '<u8': ['uint64', BigUint64Array], '<u4': ['uint32', Uint32Array],
  '<u2': ['uint16', Uint16Array], '|u1': ['uint8', Uint8Array], '|b1': ['bool', Uint8Array],
};
const DTYPES = Object.fromEntries(Object.entries(KINDS).map(([dtype, [type]]) => [type, dtype]));

let ort = null;
let session = null;

function told(error) {
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}

function failed(error) {
  return fetch('failure', { method: 'POST', body: told(error) });
}

function read(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const arrays = {};
  let at = 4 + length;
  for (const { name, dtype, shape } of header.arrays) {
    const [type, Kind] = KINDS[dtype];
    const bytes = Kind.BYTES_PER_ELEMENT * shape.reduce((a, b) => a * b, 1);
    arrays[name] = { type, shape, data: new Kind(buffer.slice(at, at + bytes)) };
    at += bytes;
  }
  return [header, arrays];
}

function written(header, arrays) {
  const layout = Object.entries(arrays).map(([name, { type, dims }]) => ({ name, dtype: DTYPES[type], shape: dims }));
  const content = new TextEncoder().encode(JSON.stringify({ ...header, arrays: layout }));
  const length = new DataView(new ArrayBuffer(4));
  length.setUint32(0, content.length, true);
  return new Blob([length.buffer, content, ...Object.values(arrays).map(({ data }) => data)]);
}

async function open({ library, provider, threads }, { model }) {
  ort = await import(`./ort/${library}`);
  ort.env.wasm.wasmPaths = new URL('ort/', location.href).href;
  ort.env.wasm.numThreads = threads;
  session = await ort.InferenceSession.create(model.data, { executionProviders: [provider], logSeverityLevel: 0 });
  if (provider === 'webgpu') {
    const device = await ort.env.webgpu.device;
    device.lost.then(({ message, reason }) => failed(`the WebGPU device was lost (${reason}): ${message}`));
  }
  return [{ words: WORDS.splice(0) }, {}];
}

async function run(_, inputs) {
  const feeds = {};
  for (const [name, { type, shape, data }] of Object.entries(inputs)) {
    feeds[name] = new ort.Tensor(type, data, shape);
  }
  const outputs = await session.run(feeds);
  WORDS.length = 0;  // a line for every node
  return [{}, outputs];
}

async function greet() {
  return [{}, {}];
}

const ORDERS = { greet, open, run };

async function obey() {
  const response = await fetch('next');
  if (response.status === 204) return;
  const [header, arrays] = read(await response.arrayBuffer());
  let answer;
  try {
    answer = await ORDERS[header.order](header, arrays);
  } catch (error) {
    answer = [{ error: told(error), words: WORDS.splice(0) }, {}];
  }
  await fetch('answer', { method: 'POST', body: written(...answer) });
}

addEventListener('error', ({ message, error }) => failed(error ?? message));
addEventListener('unhandledrejection', ({ reason }) => failed(reason));
fetch('presence').catch(() => {});
for (;;) await obey();
