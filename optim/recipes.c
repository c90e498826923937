// The table of recipes and the parts they are made of.
#include "optim/recipes.h"

#include <math.h>
#include <string.h>

#define READS(field) ((HyperSet)1 << HYPER_##field)

// ---- directions: what each reads, and the scalars it makes of it ----

#define ALWAYS_KEYS (READS(lr) | READS(weight_decay))
#define MOMENTUM_KEYS (READS(momentum) | READS(nesterov))
#define MEAN_KEYS (READS(beta1))
#define SQUARE_KEYS (READS(beta2) | READS(epsilon))
#define ORTHOGONAL_KEYS \
    (READS(momentum) | READS(nesterov) | READS(ns) | READS(ns_steps) | \
     READS(ns_coefficients) | READS(ns_safety) | READS(ns_match) | READS(ns_dtype) | READS(scale) | READS(compat))

static void set_nothing(RecipeScalars *s, const HyperOptions *h, int64_t t) { (void)s, (void)h, (void)t; }

static void set_momentum(RecipeScalars *s, const HyperOptions *h, double feed) {
    s->momentum = h->momentum;
    s->feed = feed;
    s->mix_momentum = h->nesterov ? h->momentum : 1;
    s->mix_gradient = h->nesterov ? feed : 0;
}

static void set_summed(RecipeScalars *s, const HyperOptions *h, int64_t t) { (void)t, set_momentum(s, h, 1); }
static void set_averaged(RecipeScalars *s, const HyperOptions *h, int64_t t) {
    (void)t, set_momentum(s, h, 1 - h->momentum);
}

static void set_betas(RecipeScalars *s, const HyperOptions *h, int64_t t) {
    (void)t;
    s->beta1 = h->beta1;
    s->beta2 = h->beta2;
}

// `updates`: how often the moments have moved, this step included.
static void set_adam(RecipeScalars *s, const HyperOptions *h, int64_t updates) {
    set_betas(s, h, updates);
    s->epsilon = h->epsilon;
    s->correction1 = 1 - pow(h->beta1, (double)updates);
    s->correction2 = 1 - pow(h->beta2, (double)updates);
}

static void set_square(RecipeScalars *s, const HyperOptions *h, int64_t t) {
    s->beta2 = h->beta2;
    s->epsilon = h->epsilon;
    s->correction2 = 1 - pow(h->beta2, (double)t);
}

static void set_neurons(RecipeScalars *s, const HyperOptions *h, int64_t t) {
    set_averaged(s, h, t);
    s->beta2 = h->beta2;
    s->epsilon = h->epsilon;
}

// Steps until a mean has forgotten half; the 1e-8 is the authors'.
static double half_life(double beta) { return log(0.5) / log(beta + 1e-8) - 1; }

// Both ramps are linear, that of beta3 in its half-life.
static void set_ademamix(RecipeScalars *s, const HyperOptions *h, int64_t t) {
    set_adam(s, h, t);
    s->alpha = h->alpha;
    s->beta3 = h->beta3;
    if (t >= h->ramp_steps) return;
    double part = (double)t / (double)h->ramp_steps;
    s->alpha = part * h->alpha;
    s->beta3 = pow(0.5, 1 / ((1 - part) * half_life(h->beta1) + part * half_life(h->beta3) + 1));
}

static void set_mars(RecipeScalars *s, const HyperOptions *h, int64_t t) {
    set_adam(s, h, t);
    s->gamma = h->gamma * h->beta1 / (1 - h->beta1);
}

static void set_adamx(RecipeScalars *s, const HyperOptions *h, int64_t t) {
    double beta1 = h->beta1 * pow(h->beta1_decay, (double)(t - 1));
    double before = h->beta1 * pow(h->beta1_decay, (double)(t - 2));
    double ratio = t > 1 ? (1 - beta1) / (1 - before) : 1;
    s->beta1 = beta1;
    s->beta2 = h->beta2;
    s->epsilon = h->epsilon;
    s->rescale = ratio * ratio;
    s->correction1 = h->bias_correction ? 1 - pow(beta1, (double)t) : 1;
    s->correction2 = h->bias_correction ? 1 - pow(h->beta2, (double)t) : 1;
}

static void set_soap(RecipeScalars *s, const HyperOptions *h, int64_t t) { // the first step only builds the bases
    set_adam(s, h, t > 1 ? t - 1 : 1);
    s->beta3 = h->shampoo_beta;
}

#define LIKE(name) {name, SLOT_LIKE}
#define BY_ELEMENT .move = MOVE_ELEMENTS

static const DirectionPart
    gradient = {"g", .kernel = DIRECTION_GRADIENT, BY_ELEMENT, .set = set_nothing},
    momentum = {"m = mu m + g; d = m, or g + mu m (nesterov)", .kernel = DIRECTION_MOMENTUM, BY_ELEMENT,
                .slots = {LIKE("m")}, .reads = MOMENTUM_KEYS, .set = set_summed},
    signum = {"m = mu m + (1-mu) g; d = sign(m), or sign((1-mu) g + mu m) (nesterov)", .kernel = DIRECTION_SIGNUM,
              BY_ELEMENT, .slots = {LIKE("m")}, .reads = MOMENTUM_KEYS, .set = set_averaged},
    lion = {"d = sign(b1 m + (1-b1) g), then m = b2 m + (1-b2) g", .kernel = DIRECTION_LION, BY_ELEMENT,
            .slots = {LIKE("m")}, .reads = MEAN_KEYS | READS(beta2), .set = set_betas},
    adam = {"m = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2; d = m^ / (sqrt(v^) + eps)", .kernel = DIRECTION_ADAM,
            BY_ELEMENT, .slots = {LIKE("m"), LIKE("v")}, .reads = MEAN_KEYS | SQUARE_KEYS, .set = set_adam},
    adam_without_mean = {"v = b2 v + (1-b2) g^2; d = g / (sqrt(v^) + eps)", .kernel = DIRECTION_ADAM_WITHOUT_MEAN,
                         BY_ELEMENT, .slots = {LIKE("v")}, .reads = SQUARE_KEYS, .set = set_square},
    ademamix = {"adam with a slow mean: d = (m^ + alpha slow) / (sqrt(v^) + eps), slow decays by b3; alpha and b3 grow",
                .kernel = DIRECTION_ADEMAMIX, BY_ELEMENT, .slots = {LIKE("m"), LIKE("slow"), LIKE("v")},
                .reads = MEAN_KEYS | SQUARE_KEYS | READS(beta3) | READS(alpha) | READS(ramp_steps),
                .set = set_ademamix},
    adamx = {"m by b1_t = b1 b1_decay^(t-1); v_max = max(((1-b1_t)/(1-b1_(t-1)))^2 v_max, v); "
             "d = m / (sqrt(v_max) + eps)",
             .kernel = DIRECTION_ADAMX, BY_ELEMENT, .slots = {LIKE("m"), LIKE("v"), LIKE("v_max")},
             .reads = MEAN_KEYS | SQUARE_KEYS | READS(beta1_decay) | READS(bias_correction), .set = set_adamx},
    mars = {"adam of u = g + gamma b1/(1-b1) (g - g_previous), cut to norm 1 per matrix", .kernel = DIRECTION_MARS,
            .move = MOVE_NORMED, .slots = {LIKE("m"), LIKE("v"), LIKE("g_previous")},
            .reads = MEAN_KEYS | SQUARE_KEYS | READS(gamma), .set = set_mars},
    muon = {"m = mu m + (1-mu) g; d = orthogonal factor of (1-mu) g + mu m (nesterov) or m", .move = MOVE_ORTHOGONAL,
            .slots = {LIKE("m")}, .reads = ORTHOGONAL_KEYS, .set = set_averaged},
    normuon = {"o = muon; v = b2 v + (1-b2) rowmean(o^2); n = o / (sqrt(v) + eps); d = n |o| / |n|",
               .move = MOVE_ORTHOGONAL, .neurons = NEURONS_ALIKE, .slots = {LIKE("m"), {"v", SLOT_ROWS}},
               .reads = ORTHOGONAL_KEYS | SQUARE_KEYS, .set = set_neurons},
    normuon_unit = {"as normuon, d = n sqrt(rows columns) / |n|", .move = MOVE_ORTHOGONAL, .neurons = NEURONS_UNIT,
                    .slots = {LIKE("m"), {"v", SLOT_ROWS}}, .reads = ORTHOGONAL_KEYS | SQUARE_KEYS,
                    .set = set_neurons},
    soap = {"adam in the eigenbases of L0 = mean g g' and L1 = mean g' g; the first step only builds them",
            .move = MOVE_SOAP,
            .slots = {LIKE("m"), LIKE("v"), {"L0", SLOT_LEFT}, {"Q0", SLOT_LEFT}, {"L1", SLOT_RIGHT},
                      {"Q1", SLOT_RIGHT}},
            .reads = MEAN_KEYS | SQUARE_KEYS | READS(shampoo_beta) | READS(precondition_every) |
                     READS(precondition_max) | READS(precondition_shift), .set = set_soap};

// ---- averaging: the weight c of x' = x + c (z' - x) ----

// t^r lr^p, in units in which the learning rate after warmup is 1: a constant factor changes no average, and a resume
// with another learning rate no weight of the past.
static double weight_of(const Route *route, const Averages *a, int64_t t, double factor) {
    const HyperOptions *h = &route->hyper;
    double rate = h->average_by == BY_LARGEST && a->largest > factor ? a->largest : factor;
    return pow((double)t, h->average_step_power) * pow(rate, h->average_lr_power);
}

static double weight_none(const Route *route, const Averages *a, double factor) {
    return (void)route, (void)a, (void)factor, 1;
}
static double weight_share(const Route *route, const Averages *a, double factor) {
    return a->total > 0 ? weight_of(route, a, a->t, factor) / a->total : 1;
}
static double weight_boosted(const Route *route, const Averages *a, double factor) { // Song et al., 2507.09846
    double c = route->hyper.average_boost * (1 - route->hyper.interpolation) * weight_share(route, a, factor);
    return c < 1 ? c : 1;
}
static double weight_constant(const Route *route, const Averages *a, double factor) {
    return (void)a, (void)factor, route->hyper.average_weight;
}

#define AVERAGE_KEYS (READS(average_by) | READS(average_lr_power) | READS(average_step_power))
static const AveragePart
    plain = {"x = z", false, 0, weight_none},
    weighted = {"c = w / W, w = t^r lr^p, W their sum", true, AVERAGE_KEYS, weight_share},
    boosted = {"c = min(1, C (1-b) w / W), w = t^r lr^p, W their sum", true, AVERAGE_KEYS | READS(average_boost),
               weight_boosted},
    steady = {"c constant", true, READS(average_weight), weight_constant};

// ---- interpolation: b of the next y ----

static double blend_none(const Route *route, const Averages *a) { return (void)route, (void)a, 0; }
static double blend_constant(const Route *route, const Averages *a) { return (void)a, route->hyper.interpolation; }

// AMUSE (2605.22432): constant until warmup ends at T0, then 1 - left^rho (1 - b), where `left` falls from 1. y_{t+1}
// is built with b_{t+1}; the released code builds it with b_t.
static double blend_amuse(const Route *route, const Averages *a) {
    const HyperOptions *h = &route->hyper;
    bool official = h->compat == COMPAT_OFFICIAL;
    int64_t index = official ? a->t : a->t + 1, warmup = route->schedule.warmup;
    double left, b = h->interpolation;
    if (index <= warmup || h->beta_schedule == BETA_CONST) return b;
    if (h->beta_schedule == BETA_FORMULA)
        left = (double)(warmup - 1) / (double)(index - 1);
    else if (official)
        left = a->c / (1 - a->c) * a->ramp; // w_t / W_{t-1}
    else
        left = weight_of(route, a, index, schedule_factor(&route->schedule, index)) / a->total * a->ramp;
    return 1 - pow(left, h->rho) * (1 - b);
}

static const BlendPart
    at_z = {"y = z", false, 0, blend_none},
    fixed = {"b constant", false, READS(interpolation), blend_constant},
    ramped = {"b constant during warmup, then 1 - left^rho (1-b), left = w_t W_T0 / (W_t w_T0) or (T0-1)/(t-1)",
              true, READS(interpolation) | READS(rho) | READS(beta_schedule) | READS(compat), blend_amuse};

// ---- rows ----

#define PLAIN .average = &plain, .blend = &at_z, .schedule = SCHEDULE_COSINE
#define FREE .average = &weighted, .blend = &fixed, .schedule = SCHEDULE_CONSTANT
#define RAMPED .average = &weighted, .blend = &ramped, .schedule = SCHEDULE_CONSTANT
#define ADAM_BETAS(b1, b2) .beta1 = b1, .beta2 = b2, .epsilon = 1e-8
#define WEIGHTED(by) .average_by = by, .average_lr_power = 2
#define KELLER_NS \
    .ns = "keller5", .ns_steps = OPTION_AUTO, .ns_coefficients = "auto", .ns_safety = NAN, .ns_dtype = OPTION_AUTO
#define MOONLIGHT_NS KELLER_NS, .scale = SCALE_MOONLIGHT
#define AMUSE_RAMP WEIGHTED(BY_NOW), .interpolation = 0.4, .rho = 0.8, .beta_schedule = BETA_WEIGHTSUM

static const Recipe recipes[] = {
    {"sgd", "gradient descent with momentum", &momentum, PLAIN,
     .hyper = {.lr = 0.1, .momentum = 0.9}, .origin = "ours; torch has lr 1e-3"},
    {"adam", "Kingma and Ba 2015", &adam, PLAIN,
     .hyper = {.lr = 1e-3, ADAM_BETAS(0.9, 0.999)}, .origin = "torch"},
    {"adamw", "Loshchilov and Hutter 2019", &adam, PLAIN,
     .hyper = {.lr = 6e-4, .weight_decay = 0.1, ADAM_BETAS(0.9, 0.95)},
     .origin = "Brown et al. 2020 for 125M parameters"},
    {"signum", "Bernstein et al. 2018", &signum, PLAIN,
     .hyper = {.lr = 1e-3, .weight_decay = 0.1, .momentum = 0.9}, .origin = "epfml benchmark, 124M"},
    {"lion", "Chen et al. 2023", &lion, PLAIN,
     .hyper = {.lr = 1e-4, .weight_decay = 0.1, .beta1 = 0.9, .beta2 = 0.99},
     .origin = "released code, decay of the epfml benchmark"},
    {"ademamix", "Pagliardini et al. 2024", &ademamix, PLAIN,
     .hyper = {.lr = 1e-3, .weight_decay = 0.1, ADAM_BETAS(0.9, 0.999), .beta3 = 0.9999, .alpha = 8,
               .ramp_steps = OPTION_AUTO}, .origin = "epfml benchmark, beta3 of the released code"},
    {"mars", "Yuan et al. 2024, MARS-AdamW", &mars, PLAIN, .rest = "mars_rest",
     .hyper = {.lr = 3e-3, .weight_decay = 0.1, ADAM_BETAS(0.95, 0.99), .gamma = 0.025}, .origin = "released code"},
    {"mars_rest", "what mars leaves", &adam, PLAIN,
     .hyper = {.lr = 3e-3, .weight_decay = 0.1, ADAM_BETAS(0.9, 0.95)}, .origin = "released code"},
    {"soap", "Vyas et al. 2024; on the CPU only", &soap, PLAIN, .decay_at = DECAY_AFTER, .rest = "adamw",
     .hyper = {.lr = 3e-3, .weight_decay = 0.01, ADAM_BETAS(0.95, 0.95), .shampoo_beta = 0.95, .precondition_every = 10,
               .precondition_max = 10000}, .origin = "released code"},
    {"muon", "Jordan et al. 2024, scaled as Moonlight", &muon, PLAIN, .rest = "muon_rest",
     .hyper = {.lr = 2e-3, .weight_decay = 0.1, .momentum = 0.95, .nesterov = 1, MOONLIGHT_NS},
     .origin = "d-Muon of the epfml benchmark, 124M"},
    {"muon_rest", "what muon and normuon leave", &adam, PLAIN,
     .hyper = {.lr = 2e-3, .weight_decay = 0.1, ADAM_BETAS(0.8, 0.999)},
     .origin = "d-Muon of the epfml benchmark, 124M"},
    {"normuon", "Li et al. 2025", &normuon, PLAIN, .rest = "muon_rest",
     .hyper = {.lr = 2e-3, .weight_decay = 0.1, .momentum = 0.95, .nesterov = 1, .beta2 = 0.95, .epsilon = 1e-10,
               MOONLIGHT_NS}, .origin = "as muon; beta2 and epsilon of the released code"},
    {"sf_sgd", "Schedule-Free, Defazio et al. 2024", &gradient, FREE, .decay_at = DECAY_AT_Y,
     .hyper = {.lr = 1, .interpolation = 0.9, WEIGHTED(BY_LARGEST)}, .origin = "released code"},
    {"sf_adamw", "Schedule-Free, Defazio et al. 2024", &adam_without_mean, FREE, .decay_at = DECAY_AT_Y,
     .hyper = {.lr = 2.5e-3, .beta2 = 0.999, .epsilon = 1e-8, .interpolation = 0.9, WEIGHTED(BY_LARGEST)},
     .origin = "released code"},
    {"sf_adamw_mean", "the same with a first moment", &adam, FREE, .decay_at = DECAY_AT_Y,
     .hyper = {.lr = 2.5e-3, ADAM_BETAS(0.9, 0.999), .interpolation = 0.9, WEIGHTED(BY_LARGEST)},
     .origin = "released code"},
    {"sf_adamw_refined", "Song et al. 2025, 2507.09846", &adam_without_mean, .average = &boosted, .blend = &fixed,
     .schedule = SCHEDULE_CONSTANT, .decay_at = DECAY_AT_Y,
     .hyper = {.lr = 2.5e-3, .beta2 = 0.999, .epsilon = 1e-8, .interpolation = 0.95, .average_boost = 200,
               WEIGHTED(BY_LARGEST)}, .origin = "the paper's best"},
    {"sf_muon", "Muon under constant interpolation", &muon, FREE, .rest = "sf_muon_rest",
     .hyper = {.lr = 0.01, .momentum = 0.95, .nesterov = 1, MOONLIGHT_NS, .interpolation = 0.9, WEIGHTED(BY_NOW)},
     .origin = "as amuse"},
    {"sf_muon_rest", "what sf_muon leaves", &adam_without_mean, FREE,
     .hyper = {.lr = 0.01, .beta2 = 0.999, .epsilon = 1e-10, .interpolation = 0.9, WEIGHTED(BY_NOW)},
     .origin = "as amuse"},
    {"sf_normuon", "Apte et al. 2026, 2605.23061", &normuon_unit, FREE, .rest = "sf_normuon_rest",
     .hyper = {.lr = 0.008, .weight_decay = 0.05, .momentum = 0.8, KELLER_NS, .scale = SCALE_RMS, .beta2 = 0.95,
               .epsilon = 1e-8, .interpolation = 0.9, WEIGHTED(BY_NOW)}, .origin = "port of the paper's appendix"},
    {"sf_normuon_rest", "what sf_normuon leaves", &adam_without_mean, FREE,
     .hyper = {.lr = 0.008, .weight_decay = 0.05, .beta2 = 0.95, .epsilon = 1e-8, .interpolation = 0.9,
               WEIGHTED(BY_NOW)}, .origin = "port of the paper's appendix"},
    {"gpa", "Defazio et al. 2025, 2512.17131", &adam, .average = &steady, .blend = &fixed, .schedule = SCHEDULE_COSINE,
     .hyper = {.lr = 6e-4, .weight_decay = 0.1, ADAM_BETAS(0.9, 0.999), .interpolation = 0.7,
               .average_weight = 0.0033}, .origin = "released code; lr and decay of adamw"},
    {"amuse", "Kim et al. 2026, 2605.22432", &muon, RAMPED, .rest = "amuse_rest",
     .hyper = {.lr = 0.01, .weight_decay = 0.1, .momentum = 0.95, .nesterov = 1, MOONLIGHT_NS, AMUSE_RAMP},
     .origin = "the authors' 720M script"},
    {"amuse_rest", "what amuse leaves", &adam_without_mean, RAMPED,
     .hyper = {.lr = 0.01, .weight_decay = 0.1, .beta2 = 0.999, .epsilon = 1e-10, AMUSE_RAMP},
     .origin = "the authors' 720M script"},
    {"adamx", "the optimizer of AdamCB, Kim and Oh 2025", &adamx, .average = &plain, .blend = &at_z,
     .schedule = SCHEDULE_INVERSE_SQRT,
     .hyper = {.lr = 1e-3, ADAM_BETAS(0.9, 0.999), .beta1_decay = 1 - 1e-8}, .origin = "released code"},
};
enum { RECIPE_COUNT = sizeof recipes / sizeof recipes[0] };

const Recipe *recipe_find(const char *key, const char *name, Errors *errors) {
    const char *names[RECIPE_COUNT];
    for (int i = 0; i < RECIPE_COUNT; i++) {
        names[i] = recipes[i].name;
        if (strcmp(name, names[i]) == 0) return &recipes[i];
    }
    const char *nearest = text_nearest(name, names, RECIPE_COUNT);
    errors_add(errors, EXIT_USAGE, "%s: there is no \"%s\"; %s \"%s\"; `train_gpt help optim` lists them", key, name,
               nearest ? "did you mean" : "try", nearest ? nearest : "adamw");
    return NULL;
}

const Recipe *recipe_at(int index) { return index >= 0 && index < RECIPE_COUNT ? &recipes[index] : NULL; }

HyperSet recipe_reads(const Recipe *r) {
    return ALWAYS_KEYS | r->direction->reads | r->average->reads | r->blend->reads;
}

bool recipe_is_whole(const Recipe *r) {
    return r->direction->move == MOVE_ORTHOGONAL || r->direction->move == MOVE_SOAP;
}

int64_t slot_elements(SlotShape shape, int64_t rows, int64_t columns, const HyperOptions *hyper) {
    switch (shape) {
    case SLOT_LIKE: return rows * columns;
    case SLOT_ROWS: return rows;
    case SLOT_LEFT: return rows <= hyper->precondition_max ? rows * rows : 0;
    case SLOT_RIGHT: return columns <= hyper->precondition_max ? columns * columns : 0;
    }
    return 0;
}

// ---- a recipe at work ----

void route_advance(Route *route, int64_t t) {
    Averages *a = &route->averages;
    if (t < a->t) *a = (Averages){0};
    while (a->t < t) {
        double factor = schedule_factor(&route->schedule, ++a->t);
        if (factor > a->largest) a->largest = factor;
        a->total += weight_of(route, a, a->t, factor);
        a->c = route->recipe->average->weight(route, a, factor);
        if (a->t == route->schedule.warmup) a->ramp = (1 - a->c) / a->c;
        a->b = a->b_next;
        a->b_next = route->recipe->blend->next(route, a);
    }
}

// The released AMUSE keeps y and z, and recovers x from a y that was built with the b of the step before: gap is
// multiplied by b_{t-1} / b_t.
void route_scalars(Route *route, int64_t t, RecipeScalars *s) {
    const HyperOptions *h = &route->hyper;
    const Averages *a = &route->averages;
    route_advance(route, t);
    bool official = route->recipe->blend->rises && h->compat == COMPAT_OFFICIAL;
    *s = (RecipeScalars){.eta = h->lr * schedule_factor(&route->schedule, t), .decay = h->weight_decay, .c = a->c,
                         .b = a->b, .b_next = a->b_next,
                         .stretch = official && t > 1 ? a->b / a->b_next : 1, .correction1 = 1, .correction2 = 1,
                         .rescale = 1};
    route->recipe->direction->set(s, h, t);
}

static double scale_keller(double rows, double columns) { return sqrt(rows > columns ? rows / columns : 1); }
static double scale_moonlight(double rows, double columns) { return 0.2 * sqrt(rows > columns ? rows : columns); }
static double scale_spectral(double rows, double columns) { return sqrt(rows / columns); }
static double scale_rms(double rows, double columns) { return (void)rows, (void)columns, 0.2; }

double route_move_scale(const Route *route, int64_t rows, int64_t columns) {
    static double (*const scales[])(double, double) = {
        [SCALE_KELLER] = scale_keller, [SCALE_MOONLIGHT] = scale_moonlight, [SCALE_SPECTRAL] = scale_spectral,
        [SCALE_RMS] = scale_rms};
    if (!(route->recipe->direction->reads & READS(scale))) return 1;
    return scales[route->hyper.scale]((double)rows, (double)columns);
}

// ---- help ----

static void print_bytes(Text *out, const Recipe *r) {
    static const char *const more[] = {[SLOT_ROWS] = "4 / columns", [SLOT_LEFT] = "4 rows / columns",
                                       [SLOT_RIGHT] = "4 columns / rows"};
    int of[SLOT_RIGHT + 1] = {[SLOT_LIKE] = 1 + r->average->averages};
    text_printf(out, "      state z%s", r->average->averages ? ", gap" : "");
    for (const Slot *slot = r->direction->slots; slot < r->direction->slots + SEGMENT_SLOTS && slot->name; slot++) {
        text_printf(out, ", %s", slot->name);
        of[slot->shape]++;
    }
    text_printf(out, ": %d", 4 * of[SLOT_LIKE]);
    for (int shape = SLOT_ROWS; shape <= SLOT_RIGHT; shape++)
        if (of[shape] > 0) text_printf(out, of[shape] > 1 ? " + %2$d (%1$s)" : " + %1$s", more[shape], of[shape]);
    text_add(out, " bytes per parameter; ");
}

static void print_defaults(Text *out, const Recipe *r) {
    const char *separator = "      ";
    for (int i = 0; i < HYPER_COUNT; i++) {
        const OptionRow *row = &hyper_option_rows.rows[i];
        if (!(recipe_reads(r) >> i & 1) || option_is_auto(row, &r->hyper)) continue;
        text_printf(out, "%s%s ", separator, row->name);
        option_print(row, &r->hyper, out);
        separator = ", ";
    }
    text_printf(out, "\n      (%s)\n", r->origin);
}

static void print_recipe(Text *out, const Recipe *r) {
    static const char *const points[] = {[DECAY_AT_Z] = "z", [DECAY_AT_Y] = "y", [DECAY_AFTER] = "the moved z"};
    static const char *const shards[] = {[MOVE_ELEMENTS] = "element",
                                         [MOVE_NORMED] = "element, after one norm a matrix",
                                         [MOVE_ORTHOGONAL] = "matrix", [MOVE_SOAP] = "matrix"};
    text_printf(out, "  %s: %s\n", r->name, r->what);
    text_printf(out, "      %s%s\n", strstr(r->direction->formula, "d = ") ? "" : "d = ", r->direction->formula);
    if (r->average->averages) text_printf(out, "      %s; %s\n", r->average->formula, r->blend->formula);
    text_printf(out, "      decay at %s; ", points[r->decay_at]);
    text_add(out, recipe_is_whole(r) ? "takes matrices only" : "takes any parameter");
    if (r->rest) text_printf(out, "; %s takes the rest", r->rest);
    Text schedule = {0};
    option_choice_name(optim_option_find("schedule")->choices, r->schedule, &schedule);
    text_printf(out, "; schedule %s\n", text_string(&schedule));
    text_close(&schedule);
    print_bytes(out, r);
    text_printf(out, "shards by %s\n", shards[r->direction->move]);
    print_defaults(out, r);
}

void recipes_print(Text *out) {
    text_add(out, "Recipes (optim.name; optim.matrix.name and optim.other.name override it). Each step:\n\n"
                  "  d = direction(g) with g taken at y     z' = z - lr (scale d + weight_decay P)\n"
                  "  x' = x + c (z' - x)                    y' = (1-b) z' + b x'\n\n"
                  "x is what is evaluated and saved; hats are bias-corrected. Bytes are those of the state, "
                  "beside the gradient\nand the weights that the network reads. Defaults stand last, with their "
                  "origin.\n\n");
    for (int i = 0; i < RECIPE_COUNT; i++) print_recipe(out, &recipes[i]);
    polynomials_print(out);
}
