/* Solve the puzzles of a proof of work. See verification/proof_of_work.py for the rules. */
"use strict";

var K = new Int32Array([
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
  0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
  0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
  0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
  0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
  0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
  0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
  0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2
]);
var START = new Int32Array([
  0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19
]);
var W = new Int32Array(64);
var H = new Int32Array(8);

/* One block of SHA-256 (FIPS 180-4, 6.2.2). */
function compress(bytes, at) {
  var i, s0, s1, t1, t2;
  for (i = 0; i < 16; i++, at += 4) {
    W[i] = bytes[at] << 24 | bytes[at + 1] << 16 | bytes[at + 2] << 8 | bytes[at + 3];
  }
  for (; i < 64; i++) {
    s0 = W[i - 15]; s0 = (s0 >>> 7 | s0 << 25) ^ (s0 >>> 18 | s0 << 14) ^ s0 >>> 3;
    s1 = W[i - 2]; s1 = (s1 >>> 17 | s1 << 15) ^ (s1 >>> 19 | s1 << 13) ^ s1 >>> 10;
    W[i] = W[i - 16] + s0 + W[i - 7] + s1 | 0;
  }
  var a = H[0], b = H[1], c = H[2], d = H[3], e = H[4], f = H[5], g = H[6], h = H[7];
  for (i = 0; i < 64; i++) {
    t1 = h + ((e >>> 6 | e << 26) ^ (e >>> 11 | e << 21) ^ (e >>> 25 | e << 7)) + (e & f ^ ~e & g) + K[i] + W[i] | 0;
    t2 = ((a >>> 2 | a << 30) ^ (a >>> 13 | a << 19) ^ (a >>> 22 | a << 10)) + (a & b ^ a & c ^ b & c) | 0;
    h = g; g = f; f = e; e = d + t1 | 0; d = c; c = b; b = a; a = t1 + t2 | 0;
  }
  H[0] = H[0] + a | 0; H[1] = H[1] + b | 0; H[2] = H[2] + c | 0; H[3] = H[3] + d | 0;
  H[4] = H[4] + e | 0; H[5] = H[5] + f | 0; H[6] = H[6] + g | 0; H[7] = H[7] + h | 0;
}

/* Leave the hash of `length` bytes in H. `block` has room for the padding. */
function hash(block, length) {
  var end = (length + 9 + 63 >> 6) << 6;
  block[length] = 0x80;
  block.fill(0, length + 1, end);
  for (var i = 0, bits = length * 8; i < 4; i++, bits >>>= 8) block[end - 1 - i] = bits & 255;
  H.set(START);
  for (var at = 0; at < end; at += 64) compress(block, at);
}

function solve(seed, subject, puzzles, bits) {
  var text = new TextEncoder().encode(seed + ":" + subject);
  var long = new Uint8Array(text.length + 128);
  long.set(text);
  hash(long, text.length);
  var block = new Uint8Array(128);
  for (var i = 0; i < 32; i++) block[i] = H[i >> 2] >>> 24 - (i & 3) * 8 & 255;
  var nonces = [];
  for (var index = 0; index < puzzles; index++) {
    for (var nonce = 0; ; nonce++) {
      var tail = index + ":" + nonce;
      for (var j = 0; j < tail.length; j++) block[32 + j] = tail.charCodeAt(j);
      hash(block, 32 + tail.length);
      if (H[0] >>> 32 - bits === 0) break;
    }
    nonces.push(nonce);
  }
  return nonces.join(",");
}

onmessage = function (event) {
  var task = event.data;
  postMessage({ subject: task.subject, solution: solve(task.seed, task.subject, task.puzzles, task.bits) });
};
