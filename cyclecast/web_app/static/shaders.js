/* The shaders around the model. Its frames are BGR bytes in rows without padding, four of them in each u32 of a buffer. */

const SHAPE = `
struct Shape {
  origin: vec2f,   // of the part of the source that is used, in its texture's coordinates
  extent: vec2f,   // of that part; a negative width mirrors it
  spread: vec2f,   // distance of the four samples from a pixel's center, in the same coordinates: 0 unless the source is larger
  size: vec2u,     // width and height of the model's frames
}
@group(0) @binding(0) var<uniform> shape: Shape;
`;

/* Scales the source and writes BGR bytes; each invocation writes four pixels, which are three words. */
export function packShader(textureType) {
  return `${SHAPE}
@group(0) @binding(1) var source: ${textureType};
@group(0) @binding(2) var bilinear: sampler;
@group(0) @binding(3) var<storage, read_write> words: array<u32>;

fn color_at(pixel: u32) -> vec3u {  // R, G, B from 0 to 255
  let position = vec2f(f32(pixel % shape.size.x), f32(pixel / shape.size.x)) + 0.5;
  let center = shape.origin + position / vec2f(shape.size) * shape.extent;
  var sum = vec3f(0.0);
  for (var corner = 0u; corner < 4u; corner++) {
    let side = vec2f(f32(corner & 1u), f32(corner >> 1u)) * 2.0 - 1.0;
    sum += textureSampleBaseClampToEdge(source, bilinear, center + side * shape.spread).rgb;
  }
  return vec3u(clamp(sum * 63.75 + 0.5, vec3f(0.0), vec3f(255.0)));  // 255 / 4, rounded
}

fn word(a: u32, b: u32, c: u32, d: u32) -> u32 { return a | (b << 8u) | (c << 16u) | (d << 24u); }

@compute @workgroup_size(64) fn pack(@builtin(global_invocation_id) id: vec3u) {
  let first = 4u * id.x;
  if (first >= shape.size.x * shape.size.y) { return; }
  let a = color_at(first); let b = color_at(first + 1u); let c = color_at(first + 2u); let d = color_at(first + 3u);
  words[3u * id.x] = word(a.b, a.g, a.r, b.b);
  words[3u * id.x + 1u] = word(b.g, b.r, c.b, c.g);
  words[3u * id.x + 2u] = word(c.r, d.b, d.g, d.r);
}`;
}

/* Draws the styled frame over the source: by strength, and right of the slider only. */
export const VIEW_SHADER = `
struct View {
  size: vec2u,     // width and height of the frames
  split: f32,      // where the slider is, in pixels; negative: there is none
  line: f32,       // half the width of the slider's line, in pixels
  strength: f32,   // share of the styled frame, from 0 to 1
}
@group(0) @binding(0) var<uniform> view: View;
@group(0) @binding(1) var<storage, read> source: array<u32>;
@group(0) @binding(2) var<storage, read> styled: array<u32>;

@vertex fn cover(@builtin(vertex_index) index: u32) -> @builtin(position) vec4f {
  return vec4f(f32(index & 1u) * 4.0 - 1.0, f32(index >> 1u) * 4.0 - 1.0, 0.0, 1.0);
}

fn source_byte(at: u32) -> f32 { return f32((source[at / 4u] >> (8u * (at % 4u))) & 255u); }
fn styled_byte(at: u32) -> f32 { return f32((styled[at / 4u] >> (8u * (at % 4u))) & 255u); }

@fragment fn blend(@builtin(position) position: vec4f) -> @location(0) vec4f {
  if (abs(position.x - view.split) < view.line && view.split >= 0.0) { return vec4f(1.0); }
  let at = 3u * (u32(position.y) * view.size.x + u32(position.x));
  let before = vec3f(source_byte(at + 2u), source_byte(at + 1u), source_byte(at));
  let after = vec3f(styled_byte(at + 2u), styled_byte(at + 1u), styled_byte(at));
  let share = select(view.strength, 0.0, position.x < view.split);
  return vec4f(mix(before, after, share) / 255.0, 1.0);
}`;
