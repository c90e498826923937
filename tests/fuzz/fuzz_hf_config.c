// A config.json from anywhere: refused, or a shape whose sizes are in their limits, which our own config.json says
// again.
#include "model/gpt.h"
#include "tests/fuzz/fuzz.h"

TARGET {
    GptShape shape, back;
    Errors errors = {0};
    Text text = {0};
    bool good = gpt_config_read(&shape, "config.json", (const char *)bytes, size, &errors);
    fuzz_errors(&errors, !good);
    if (!good) return 0;
    const int64_t sizes[] = {shape.layers, shape.width, shape.heads, shape.kv_heads, shape.head_dim, shape.ffn_width,
                             shape.vocab, shape.context};
    for (int i = 0; i < 8; i++) HOLDS(sizes[i] > 0 && sizes[i] <= 2000000000);
    HOLDS(shape.heads % shape.kv_heads == 0 && shape.head_dim <= 512);
    gpt_config_json(&shape, DTYPE_F32, &(GptTokens){"null", "null"}, &text);
    HOLDS(gpt_config_read(&back, "config.json", text.data, text.size, &errors));
    HOLDS(memcmp(&shape, &back, offsetof(GptShape, norm)) == 0 && shape.norm_epsilon == back.norm_epsilon);
    HOLDS(shape.rope_theta == back.rope_theta && shape.tied == back.tied);
    text_close(&text);
    return 0;
}
