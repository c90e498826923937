// bf16 as the toolkit's header of this name has it: types, conversions and arithmetic; every result is rounded once, to
// nearest even. A NaN becomes 0x7fff.
#pragma once

#include <vector_types.h>

#include <cmath>
#include <cstdint>
#include <cstring>

struct __nv_bfloat16_raw {
    unsigned short x;
};

struct __nv_bfloat16;
inline __nv_bfloat16 __float2bfloat16_rn(float x);
inline float __bfloat162float(__nv_bfloat16 x);

struct __align__(2) __nv_bfloat16 {
    unsigned short __x;

    __nv_bfloat16() = default;
    constexpr __nv_bfloat16(__nv_bfloat16_raw raw) : __x(raw.x) {}
    __nv_bfloat16(float x) { *this = __float2bfloat16_rn(x); }
    __nv_bfloat16(double x);
    __nv_bfloat16(int x) : __nv_bfloat16(static_cast<float>(x)) {}
    operator float() const { return __bfloat162float(*this); }
    operator __nv_bfloat16_raw() const { return {__x}; }
};

struct __align__(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;

    __nv_bfloat162() = default;
    constexpr __nv_bfloat162(__nv_bfloat16 low, __nv_bfloat16 high) : x(low), y(high) {}
};

// ---- conversions ----

inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) { return x.__x; }
inline short __bfloat16_as_short(__nv_bfloat16 x) { return static_cast<short>(x.__x); }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { return __nv_bfloat16_raw{bits}; }
inline __nv_bfloat16 __short_as_bfloat16(short bits) { return __ushort_as_bfloat16(static_cast<unsigned short>(bits)); }

inline float __bfloat162float(__nv_bfloat16 x) {
    uint32_t bits = static_cast<uint32_t>(x.__x) << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
inline __nv_bfloat16 __float2bfloat16_rn(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (x != x) return __ushort_as_bfloat16(0x7fff);
    return __ushort_as_bfloat16(static_cast<unsigned short>((bits + 0x7fff + (bits >> 16 & 1)) >> 16));
}
inline __nv_bfloat16 __float2bfloat16(float x) { return __float2bfloat16_rn(x); }
// Rounded once: to an odd fp32 number first, which is no tie and no bf16 unless it is exact.
inline __nv_bfloat16 __double2bfloat16(double x) {
    float nearest = static_cast<float>(x);
    if (nearest != x && std::fabs(nearest) > std::fabs(x)) nearest = std::nextafterf(nearest, 0);
    uint32_t bits;
    memcpy(&bits, &nearest, sizeof bits);
    bits |= nearest != x;
    memcpy(&nearest, &bits, sizeof bits);
    return x != x ? __ushort_as_bfloat16(0x7fff) : __float2bfloat16_rn(nearest);
}
inline __nv_bfloat16 __float2bfloat16_rz(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return __ushort_as_bfloat16(x != x ? 0x7fff : static_cast<unsigned short>(bits >> 16));
}

inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 low, __nv_bfloat16 high) { return {low, high}; }
inline __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 x) { return {x, x}; }
inline __nv_bfloat162 __float2bfloat162_rn(float x) { return __bfloat162bfloat162(__float2bfloat16_rn(x)); }
inline __nv_bfloat162 __floats2bfloat162_rn(float low, float high) {
    return {__float2bfloat16_rn(low), __float2bfloat16_rn(high)};
}
inline __nv_bfloat162 __float22bfloat162_rn(float2 x) { return __floats2bfloat162_rn(x.x, x.y); }
inline float2 __bfloat1622float2(__nv_bfloat162 x) { return {__bfloat162float(x.x), __bfloat162float(x.y)}; }
inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 x) { return x.x; }
inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 x) { return x.y; }
inline float __low2float(__nv_bfloat162 x) { return __bfloat162float(x.x); }
inline float __high2float(__nv_bfloat162 x) { return __bfloat162float(x.y); }

inline __nv_bfloat16::__nv_bfloat16(double x) { *this = __double2bfloat16(x); }

// ---- arithmetic ----

#define CUDASIM_BF16(name, expression)                                         \
    inline __nv_bfloat16 name(__nv_bfloat16 left, __nv_bfloat16 right) {       \
        const float a = __bfloat162float(left), b = __bfloat162float(right);   \
        return __float2bfloat16_rn(expression);                                \
    }                                                                          \
    inline __nv_bfloat162 name##2(__nv_bfloat162 left, __nv_bfloat162 right) { \
        return {name(left.x, right.x), name(left.y, right.y)};                 \
    }
CUDASIM_BF16(__hadd, a + b)
CUDASIM_BF16(__hsub, a - b)
CUDASIM_BF16(__hmul, a *b)
CUDASIM_BF16(__hmax, std::fmax(a, b))
CUDASIM_BF16(__hmin, std::fmin(a, b))
CUDASIM_BF16(__hmax_nan, a != a || b != b ? NAN : std::fmax(a, b))
CUDASIM_BF16(__hmin_nan, a != a || b != b ? NAN : std::fmin(a, b))
#undef CUDASIM_BF16

inline __nv_bfloat16 __hdiv(__nv_bfloat16 a, __nv_bfloat16 b) {
    return __float2bfloat16_rn(__bfloat162float(a) / __bfloat162float(b));
}
inline __nv_bfloat16 __hfma(__nv_bfloat16 a, __nv_bfloat16 b, __nv_bfloat16 c) {
    return __float2bfloat16_rn(std::fma(__bfloat162float(a), __bfloat162float(b), __bfloat162float(c)));
}
inline __nv_bfloat162 __hfma2(__nv_bfloat162 a, __nv_bfloat162 b, __nv_bfloat162 c) {
    return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};
}
inline __nv_bfloat16 __hneg(__nv_bfloat16 x) {
    return __ushort_as_bfloat16(static_cast<unsigned short>(x.__x ^ 0x8000));
}
inline __nv_bfloat16 __habs(__nv_bfloat16 x) {
    return __ushort_as_bfloat16(static_cast<unsigned short>(x.__x & 0x7fff));
}
inline __nv_bfloat162 __hneg2(__nv_bfloat162 x) { return {__hneg(x.x), __hneg(x.y)}; }
inline __nv_bfloat162 __habs2(__nv_bfloat162 x) { return {__habs(x.x), __habs(x.y)}; }
inline bool __hisnan(__nv_bfloat16 x) { return (x.__x & 0x7fff) > 0x7f80; }
inline int __hisinf(__nv_bfloat16 x) { return (x.__x & 0x7fff) == 0x7f80 ? (x.__x & 0x8000 ? -1 : 1) : 0; }

inline bool __heq(__nv_bfloat16 a, __nv_bfloat16 b) { return __bfloat162float(a) == __bfloat162float(b); }
inline bool __hlt(__nv_bfloat16 a, __nv_bfloat16 b) { return __bfloat162float(a) < __bfloat162float(b); }
inline bool __hgt(__nv_bfloat16 a, __nv_bfloat16 b) { return __bfloat162float(a) > __bfloat162float(b); }

inline __nv_bfloat16 operator+(__nv_bfloat16 a, __nv_bfloat16 b) { return __hadd(a, b); }
inline __nv_bfloat16 operator-(__nv_bfloat16 a, __nv_bfloat16 b) { return __hsub(a, b); }
inline __nv_bfloat16 operator*(__nv_bfloat16 a, __nv_bfloat16 b) { return __hmul(a, b); }
inline __nv_bfloat16 operator/(__nv_bfloat16 a, __nv_bfloat16 b) { return __hdiv(a, b); }
inline __nv_bfloat16 operator-(__nv_bfloat16 x) { return __hneg(x); }

inline __nv_bfloat16 hexp(__nv_bfloat16 x) { return __float2bfloat16_rn(std::exp(__bfloat162float(x))); }
inline __nv_bfloat16 hsqrt(__nv_bfloat16 x) { return __float2bfloat16_rn(std::sqrt(__bfloat162float(x))); }
inline __nv_bfloat16 hrsqrt(__nv_bfloat16 x) { return __float2bfloat16_rn(1.0f / std::sqrt(__bfloat162float(x))); }
inline __nv_bfloat16 hrcp(__nv_bfloat16 x) { return __float2bfloat16_rn(1.0f / __bfloat162float(x)); }
