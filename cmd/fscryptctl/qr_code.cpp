#include "qr_code.h"

#include <dlfcn.h>
#include <qrencode.h>
#include <string.h>  // NOLINT(modernize-deprecated-headers): explicit_bzero is not in std

#include <algorithm>
#include <cerrno>
#include <span>
#include <string_view>

#include "fscryptctl/base/error.h"

namespace fscryptctl {
namespace {

constexpr const char* kLibrary = "libqrencode.so.4";
constexpr std::size_t kMaxText = 255;
/// Light squares around the code, which readers need to find it (ISO/IEC 18004).
constexpr int kQuietZone = 4;

/// The two functions of libqrencode that are used.
struct Library {
  decltype(&QRcode_encodeString) encode;
  decltype(&QRcode_free) free;
};

Library load() {
  // Never unloaded: it would gain nothing.
  void* const handle = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    throw Error(Errc::io, "QR codes need " + std::string(kLibrary) + ", which is not installed");
  }
  const auto find = [handle](const char* name) {
    void* const symbol = dlsym(handle, name);
    if (symbol == nullptr) throw Error(Errc::io, std::string(kLibrary) + " has no " + name);
    return symbol;
  };
  return {reinterpret_cast<decltype(&QRcode_encodeString)>(find("QRcode_encodeString")),
          reinterpret_cast<decltype(&QRcode_free)>(find("QRcode_free"))};
}

/// What the library drew. It is wiped; what else the library has had in memory is not, and goes
/// with this process, of which nobody gets a core dump.
class Squares {
 public:
  explicit Squares(ByteView text) : library_(load()), code_(encode(library_, text)) {}
  ~Squares() {
    explicit_bzero(code_->data, cells().size());
    library_.free(code_);
  }
  Squares(const Squares&) = delete;
  Squares& operator=(const Squares&) = delete;

  [[nodiscard]] int size() const noexcept { return code_->width; }
  /// Also outside, where it is light.
  [[nodiscard]] bool dark(int row, int column) const {
    if (row < 0 || column < 0 || row >= size() || column >= size()) return false;
    const std::size_t index = static_cast<std::size_t>(row) * static_cast<std::size_t>(size()) +
                              static_cast<std::size_t>(column);
    return (cells()[index] & 1U) != 0;
  }

 private:
  static QRcode* encode(const Library& library, ByteView text) {
    if (text.size() > kMaxText) throw Error(Errc::usage, "the text is too long for a QR code");
    SecretBytes terminated(text.size() + 1);
    std::copy(text.begin(), text.end(), terminated.writable().begin());
    const auto* const string = reinterpret_cast<const char*>(terminated.view().data());
    QRcode* const code = library.encode(string, 0, QR_ECLEVEL_M, QR_MODE_8, 1);
    if (code == nullptr) throw system_error(errno, "making a QR code");
    return code;
  }

  [[nodiscard]] std::span<unsigned char> cells() const {
    const auto width = static_cast<std::size_t>(code_->width);
    return {code_->data, width * width};
  }

  Library library_;
  QRcode* code_;
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

void require_qr_codes() { static_cast<void>(load()); }

SecretBytes qr_code(ByteView text, QrStyle style) {
  const Squares squares(text);
  const bool terminal = style == QrStyle::terminal;
  // White ink on black paper, as terminals are drawn; on real paper it is the other way round.
  const std::string_view begin = terminal ? "\x1b[0;97;40m" : "# ";
  const std::string_view end = terminal ? "\x1b[0m\n" : "\n";
  const int first = -kQuietZone;
  const int last = squares.size() + kQuietZone;
  constexpr std::size_t kBytesOfBlock = 3;
  const auto width = static_cast<std::size_t>(last - first);
  const std::size_t lines = (width + 1) / 2;
  SecretWriter out(lines * (width * kBytesOfBlock + begin.size() + end.size()));
  for (int row = first; row < last; row += 2) {
    out.put(begin);
    for (int column = first; column < last; ++column) {
      const bool upper = squares.dark(row, column);
      const bool lower = squares.dark(row + 1, column);
      out.put(half_blocks(upper != terminal, lower != terminal));
    }
    out.put(end);
  }
  return out.take();
}

}  // namespace fscryptctl
