#include "qr_code.h"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <string_view>

namespace fscryptctl {
namespace {

// ISO/IEC 18004: version 4, error correction level M (15 % of the code may be unreadable),
// alphanumeric mode.
constexpr int kSize = 33;
constexpr int kQuietZone = 4;
constexpr std::size_t kDataBytes = 64;
constexpr std::size_t kBlocks = 2;
constexpr std::size_t kDataOfBlock = kDataBytes / kBlocks;
constexpr std::size_t kCorrectionOfBlock = 18;
constexpr std::size_t kCodeBytes = kBlocks * (kDataOfBlock + kCorrectionOfBlock);
constexpr std::string_view kAlphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:";
// Level M and mask 0, with their error correction, as the standard's table has them. Any mask is
// good for a reader: which one looks best hardly matters for random text.
constexpr unsigned kFormat = 0x5412;

/// Bits one after the other, the most significant first.
class BitWriter {
 public:
  explicit BitWriter(std::span<std::uint8_t> out) : out_(out) {}

  void put(unsigned value, unsigned bits) {
    for (unsigned bit = bits; bit-- > 0; ++used_) {
      if ((value >> bit & 1U) != 0) {
        out_[used_ / 8] |= static_cast<std::uint8_t>(0x80U >> used_ % 8);
      }
    }
  }
  [[nodiscard]] std::size_t used() const noexcept { return used_; }

 private:
  std::span<std::uint8_t> out_;
  std::size_t used_ = 0;
};

unsigned value_of(std::uint8_t character) {
  const std::size_t found = kAlphabet.find(static_cast<char>(character));
  if (found == std::string_view::npos) throw std::invalid_argument("no QR code of this text");
  return static_cast<unsigned>(found);
}

SecretBytes data_bytes(ByteView text) {
  if (text.size() > kMaxQrCodeText) throw std::invalid_argument("too long for this QR code");
  SecretBytes data(kDataBytes);
  BitWriter bits(data.writable());
  bits.put(2, 4);  // alphanumeric
  bits.put(static_cast<unsigned>(text.size()), 9);
  for (std::size_t i = 0; i < text.size(); i += 2) {
    const bool pair = i + 1 < text.size();
    const unsigned first = value_of(text[i]);
    bits.put(pair ? first * 45 + value_of(text[i + 1]) : first, pair ? 11 : 6);
  }
  // Four zero bits end the text, zero bits fill the byte, and two bytes by turns fill the rest.
  std::size_t used = (bits.used() + 4 + 7) / 8;
  for (bool first = true; used < kDataBytes; ++used, first = !first) {
    data.writable()[used] = first ? 0xec : 0x11;
  }
  return data;
}

/// In GF(256) modulo x^8 + x^4 + x^3 + x^2 + 1.
std::uint8_t product(std::uint8_t a, std::uint8_t b) {
  unsigned result = 0;
  for (unsigned bit = 8; bit-- > 0;) {
    result <<= 1U;
    if ((result & 0x100U) != 0) result ^= 0x11dU;
    if ((b >> bit & 1U) != 0) result ^= a;
  }
  return static_cast<std::uint8_t>(result);
}

using Generator = std::array<std::uint8_t, kCorrectionOfBlock>;

/// The product of x - 2^i for all i below the degree, without the leading 1.
Generator generator() {
  Generator polynomial{};
  polynomial.back() = 1;
  std::uint8_t root = 1;
  for (std::size_t i = 0; i < polynomial.size(); ++i, root = product(root, 2)) {
    for (std::size_t j = 0; j < polynomial.size(); ++j) {
      const std::uint8_t next = j + 1 < polynomial.size() ? polynomial[j + 1] : std::uint8_t{0};
      polynomial[j] = static_cast<std::uint8_t>(product(polynomial[j], root) ^ next);
    }
  }
  return polynomial;
}

/// Reed-Solomon: the remainder of the data by the generator.
void correct(ByteView data, std::span<std::uint8_t> remainder) {
  const Generator polynomial = generator();
  for (const std::uint8_t byte : data) {
    const auto factor = static_cast<std::uint8_t>(byte ^ remainder[0]);
    std::rotate(remainder.begin(), remainder.begin() + 1, remainder.end());
    remainder.back() = 0;
    for (std::size_t i = 0; i < remainder.size(); ++i) {
      remainder[i] ^= product(polynomial[i], factor);
    }
  }
}

/// Data and correction bytes, of the blocks by turns.
SecretBytes code_bytes(ByteView text) {
  const SecretBytes data = data_bytes(text);
  SecretBytes code(kCodeBytes);
  for (std::size_t block = 0; block < kBlocks; ++block) {
    const ByteView own = data.view().subspan(block * kDataOfBlock, kDataOfBlock);
    SecretBytes correction(kCorrectionOfBlock);
    correct(own, correction.writable());
    for (std::size_t i = 0; i < kDataOfBlock; ++i) {
      code.writable()[i * kBlocks + block] = own[i];
    }
    for (std::size_t i = 0; i < kCorrectionOfBlock; ++i) {
      code.writable()[kDataBytes + i * kBlocks + block] = correction.view()[i];
    }
  }
  return code;
}

/// The squares, and which of them are part of the fixed pattern.
class Squares {
 public:
  explicit Squares(ByteView code) : dark_(kSize * kSize) {
    for (int i = 0; i < kSize; ++i) {
      set(6, i, i % 2 == 0);
      set(i, 6, i % 2 == 0);
    }
    draw_finder(3, 3);
    draw_finder(3, kSize - 4);
    draw_finder(kSize - 4, 3);
    draw_rings(kSize - 7, kSize - 7, 2);
    draw_format();
    draw_code(code);
  }

  /// Outside of it all is light.
  [[nodiscard]] bool dark(int row, int column) const {
    return inside(row, column) && dark_.view()[index(row, column)] != 0;
  }

 private:
  static bool inside(int row, int column) {
    return row >= 0 && row < kSize && column >= 0 && column < kSize;
  }
  static std::size_t index(int row, int column) {
    return static_cast<std::size_t>(row) * kSize + static_cast<std::size_t>(column);
  }
  void set(int row, int column, bool dark) {
    if (!inside(row, column)) return;
    dark_.writable()[index(row, column)] = dark ? 1 : 0;
    fixed_[index(row, column)] = true;
  }

  /// Square rings around a dark one; the light one is the second from outside, at `radius` - 1.
  void draw_rings(int row, int column, int radius) {
    for (int y = -radius; y <= radius; ++y) {
      for (int x = -radius; x <= radius; ++x) {
        set(row + y, column + x, std::max(std::abs(x), std::abs(y)) != radius - 1);
      }
    }
  }
  void draw_finder(int row, int column) {
    for (int y = -4; y <= 4; ++y) {
      for (int x = -4; x <= 4; ++x) set(row + y, column + x, false);
    }
    draw_rings(row, column, 3);
  }

  /// Fifteen bits, twice, and one square that is always dark.
  void draw_format() {
    for (int i = 0; i < 15; ++i) {
      const bool dark = (kFormat >> static_cast<unsigned>(i) & 1U) != 0;
      const int beside_timing = i < 6 ? i : i + 1;
      if (i < 8) {
        set(beside_timing, 8, dark);
        set(8, kSize - 1 - i, dark);
      } else {
        set(8, i == 8 ? 7 : 14 - i, dark);
        set(kSize - 15 + i, 8, dark);
      }
    }
    set(kSize - 8, 8, true);
  }

  /// In columns of two from the right, upward and downward by turns.
  void draw_code(ByteView code) {
    std::size_t bit = 0;
    bool upward = true;
    for (int right = kSize - 1; right > 0; right -= 2, upward = !upward) {
      if (right == 6) --right;  // the column of the timing pattern
      for (int i = 0; i < kSize; ++i) {
        const int row = upward ? kSize - 1 - i : i;
        for (const int column : {right, right - 1}) {
          if (fixed_[index(row, column)]) continue;
          const bool one = bit < code.size() * 8 && (code[bit / 8] >> (7 - bit % 8) & 1U) != 0;
          ++bit;
          // Mask 0 turns every second square over.
          dark_.writable()[index(row, column)] = one != ((row + column) % 2 == 0) ? 1 : 0;
        }
      }
    }
  }

  SecretBytes dark_;
  std::array<bool, static_cast<std::size_t>(kSize) * kSize> fixed_{};
};

/// A text that grows within the room that it was given.
class SecretWriter {
 public:
  explicit SecretWriter(std::size_t room) : text_(room) {}
  void put(std::string_view part) {
    std::copy(part.begin(), part.end(), text_.writable().begin() + used_);
    used_ += static_cast<std::ptrdiff_t>(part.size());
  }
  SecretBytes take() {
    text_.truncate(static_cast<std::size_t>(used_));
    return std::move(text_);
  }

 private:
  SecretBytes text_;
  std::ptrdiff_t used_ = 0;
};

/// Two squares above each other; `ink` is drawn.
std::string_view half_blocks(bool upper_ink, bool lower_ink) {
  if (upper_ink && lower_ink) return "\u2588";
  if (upper_ink) return "\u2580";
  return lower_ink ? "\u2584" : " ";
}

}  // namespace

SecretBytes qr_code(ByteView text, QrStyle style) {
  const SecretBytes code = code_bytes(text);
  const Squares squares(code.view());
  const bool terminal = style == QrStyle::terminal;
  // White ink on black paper, as terminals are drawn; on real paper it is the other way round.
  const std::string_view begin = terminal ? "\x1b[0;97;40m" : "# ";
  const std::string_view end = terminal ? "\x1b[0m\n" : "\n";
  constexpr int kFrom = -kQuietZone;
  constexpr int kTo = kSize + kQuietZone;
  constexpr std::size_t kLines = (kTo - kFrom + 1) / 2;
  constexpr std::size_t kBytesOfBlock = 3;
  SecretWriter out(kLines * ((kTo - kFrom) * kBytesOfBlock + begin.size() + end.size()));
  for (int row = kFrom; row < kTo; row += 2) {
    out.put(begin);
    for (int column = kFrom; column < kTo; ++column) {
      const bool upper = squares.dark(row, column);
      const bool lower = squares.dark(row + 1, column);
      out.put(half_blocks(upper != terminal, lower != terminal));
    }
    out.put(end);
  }
  return out.take();
}

}  // namespace fscryptctl
