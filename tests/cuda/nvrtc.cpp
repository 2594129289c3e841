// A stand-in for NVRTC: compiles CUDA C with the host's g++, with shim.h in place of CUDA's own declarations, into an
// object that the stand-in for the driver loads. The intermediate code that it hands out only names that object.
// Objects are kept in a folder, by the text they come from.
#include <dlfcn.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "stand_in.h"

extern char** environ;

namespace {

constexpr int OUT_OF_SPACE = 1, INVALID_INPUT = 3, INVALID_PROGRAM = 4, COMPILATION = 6, INTERNAL_ERROR = 11;

struct Program {
    std::string name, source, log, image;
    std::vector<std::pair<std::string, std::string>> headers;
};

const std::vector<std::string> COMPILER = {"g++",   "-std=c++17", "-O2", "-march=native", "-ffp-contract=off",
                                           "-fno-math-errno", "-fno-semantic-interposition", "-fPIC",
                                           "-fno-strict-aliasing", "-fwrapv", "-DDISTILLERY_STAND_IN", "-w"};

std::string read(const std::string& path) {
    std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

bool write(const std::string& path, const std::string& text) {
    std::ofstream file(path);
    file << text;
    return static_cast<bool>(file.flush());
}

/// Runs a command in a folder, its output to files there; true when it succeeds.
bool run(const std::string& folder, const std::vector<std::string>& command, const char* output, const char* errors) {
    std::vector<char*> arguments;
    for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addchdir_np(&actions, folder.c_str());
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_addopen(&actions, 2, errors, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    pid_t child;
    const int failed = posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failed) {
        stand_in::complain("cannot run %s: %s", arguments[0], strerror(failed));
        return false;
    }
    int status;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) return false;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/// The folder that holds this library and shim.h.
std::string own_folder() {
    Dl_info info;
    dladdr(reinterpret_cast<void*>(&own_folder), &info);
    char* real = realpath(info.dli_fname, nullptr);
    std::string path = real ? real : info.dli_fname;
    free(real);
    return path.substr(0, path.rfind('/'));
}

void make_folders(const std::string& path) {
    for (size_t at = 1; at != std::string::npos;) {
        at = path.find('/', at + 1);
        mkdir(path.substr(0, at).c_str(), 0755);
    }
}

std::string cache_folder() {
    const char *cache = getenv("DISTILLERY_STAND_IN_CACHE"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    std::string path;
    if (cache && *cache) path = cache;
    else if (xdg && *xdg) path = std::string(xdg) + "/distillery-stand-in";
    else path = std::string(home && *home ? home : ".") + "/.cache/distillery-stand-in";
    make_folders(path);
    char* real = realpath(path.c_str(), nullptr);
    if (real) path = real;
    free(real);
    return path;
}

/// A digest of 128 bits, in hexadecimal (FNV-1a).
std::string digest(const std::string& text) {
    const unsigned __int128 prime = (static_cast<unsigned __int128>(1) << 88) + 0x13b;
    unsigned __int128 hash = (static_cast<unsigned __int128>(0x6c62272e07bb0142) << 64) + 0x62b821756295c58d;
    for (unsigned char byte : text) hash = (hash ^ byte) * prime;
    char hex[33];
    snprintf(hex, sizeof hex, "%016llx%016llx", static_cast<unsigned long long>(hash >> 64),
             static_cast<unsigned long long>(hash));
    return hex;
}

/// What -march=native depends on.
std::string processor() {
    std::istringstream lines(read("/proc/cpuinfo"));
    for (std::string line; std::getline(lines, line);)
        if (line.compare(0, 5, "flags") == 0) return line;
    return "";
}

struct Token {
    std::string text;
    size_t at;
};

std::vector<Token> tokens(const std::string& text) {
    std::vector<Token> found;
    const auto part_of_word = [](char c) { return isalnum(static_cast<unsigned char>(c)) || c == '_'; };
    for (size_t i = 0; i < text.size();) {
        size_t end = i + 1;
        if (part_of_word(text[i])) {
            while (end < text.size() && part_of_word(text[end])) end++;
        } else if (text[i] == '"' || text[i] == '\'') {
            while (end < text.size() && text[end] != text[i]) end += text[end] == '\\' ? 2 : 1;
            end++;
        } else if (isspace(static_cast<unsigned char>(text[i]))) {
            i++;
            continue;
        }
        found.push_back({text.substr(i, end - i), i});
        i = end;
    }
    return found;
}

/// Registrations for every kernel in the preprocessed text: `stand_in_global void [stand_in_bounds(N, ...)] name(`.
/// Templates are left out: a driver cannot find them by their name either.
std::string registrations(const std::string& text) {
    std::map<std::string, std::string> bounds_of;
    const std::vector<Token> all = tokens(text);
    for (size_t i = 0; i < all.size(); i++) {
        if (all[i].text != "stand_in_global" || (i && all[i - 1].text == ">")) continue;
        std::string bounds = "1024";
        for (size_t k = i + 1; k + 1 < all.size(); k++) {
            if (all[k + 1].text != "(") continue;
            const std::string name = all[k].text;
            if (name != "stand_in_bounds" && name != "__attribute__") {
                bounds_of[name] = bounds;
                break;
            }
            // Over the parentheses; the first argument of the launch bounds is what counts.
            const size_t first = all[k + 1].at + 1;
            int depth = 0;
            size_t end = 0;
            for (k++;; k++) {
                if (k >= all.size()) return "";
                if (all[k].text == "(") depth++;
                if (all[k].text == ")") depth--;
                if (!end && ((all[k].text == "," && depth == 1) || !depth)) end = all[k].at;
                if (!depth) break;
            }
            if (name == "stand_in_bounds") bounds = text.substr(first, end - first);
        }
    }
    std::string code;
    for (const auto& [name, bounds] : bounds_of) code += "STAND_IN_KERNEL(" + name + ", (" + bounds + "))\n";
    return code;
}

/// The options that matter here: definitions and their removal.
std::vector<std::string> definitions(int count, const char* const* options) {
    std::vector<std::string> kept;
    for (int i = 0; i < count; i++) {
        std::string option = options[i];
        for (const auto& [name, short_name] : {std::pair("--define-macro", "-D"), std::pair("--undefine-macro", "-U")})
            if (option.compare(0, strlen(name), name) == 0) {
                option = short_name + option.substr(strlen(name));
                if (option[2] == '=') option.erase(2, 1);
            }
        if (option.compare(0, 2, "-D") && option.compare(0, 2, "-U")) continue;
        if (option.size() == 2 && i + 1 < count) option += options[++i];
        kept.push_back(option);
    }
    return kept;
}

/// Compiles in a temporary folder, unless the cache holds the object already.
int compile_in(Program& program, const std::string& folder, const std::string& cache, std::vector<std::string> command) {
    const std::string own = own_folder();
    std::string key = read(own + "/shim.h") + read(own + "/device_thread.h") + processor();
    for (const std::string& word : command) key += word + "\n";
    command.insert(command.end(), {"-include", own + "/shim.h"});
    const std::string unit = "\"" + program.name + "\"";
    for (const auto& [name, text] : program.headers)
        if (!write(folder + "/" + name, text)) return OUT_OF_SPACE;
    if (!write(folder + "/" + program.name, program.source)) return OUT_OF_SPACE;

    std::vector<std::string> scan = command;
    scan.insert(scan.end(), {"-DSTAND_IN_SCAN", "-E", "-P", "-x", "c++", program.name});
    if (!run(folder, scan, "scanned", "log")) {
        program.log = read(folder + "/log");
        return COMPILATION;
    }
    const std::string scanned = read(folder + "/scanned");
    const std::string object = cache + "/" + digest(key + scanned) + ".so";

    if (access(object.c_str(), R_OK)) {
        if (!write(folder + "/unit.cpp", "#include " + unit + "\n" + registrations(scanned))) return OUT_OF_SPACE;
        command.insert(command.end(), {"-shared", "-Wl,-z,defs", "-I.", "-x", "c++", "unit.cpp", "-o", "object.so", "-x",
                                       "none", own + "/libcuda.so.1"});
        if (!run(folder, command, "output", "log")) {
            program.log = read(folder + "/log");
            return COMPILATION;
        }
        if (rename((folder + "/object.so").c_str(), object.c_str())) return INTERNAL_ERROR;
    }
    program.image = "// stand-in: " + object + "\n";
    return 0;
}

}  // namespace

STAND_IN_API int nvrtcVersion(int* major, int* minor) {
    *major = 13, *minor = 0;
    return 0;
}

STAND_IN_API const char* nvrtcGetErrorString(int result) {
    switch (result) {
        case 0: return "NVRTC_SUCCESS";
        case OUT_OF_SPACE: return "NVRTC_ERROR_OUT_OF_MEMORY";
        case INVALID_INPUT: return "NVRTC_ERROR_INVALID_INPUT";
        case INVALID_PROGRAM: return "NVRTC_ERROR_INVALID_PROGRAM";
        case COMPILATION: return "NVRTC_ERROR_COMPILATION";
        default: return "NVRTC_ERROR_INTERNAL_ERROR";
    }
}

STAND_IN_API int nvrtcCreateProgram(void** program, const char* source, const char* name, int count,
                                    const char* const* headers, const char* const* names) {
    if (!source) return INVALID_INPUT;
    auto made = new Program;
    made->source = source;
    // Its last part, for it is a file of a temporary folder.
    made->name = name && *name ? name : "default_program";
    made->name.erase(0, made->name.rfind('/') + 1);
    for (int i = 0; i < count; i++) made->headers.emplace_back(names[i], headers[i]);
    *program = made;
    return 0;
}

STAND_IN_API int nvrtcDestroyProgram(void** program) {
    delete static_cast<Program*>(*program);
    *program = nullptr;
    return 0;
}

STAND_IN_API int nvrtcCompileProgram(void* handle, int count, const char* const* options) {
    if (!handle) return INVALID_PROGRAM;
    Program& program = *static_cast<Program*>(handle);
    std::vector<std::string> command = COMPILER;
    for (const std::string& option : definitions(count, options)) command.push_back(option);

    const std::string cache = cache_folder();
    std::string folder = cache + "/compiling-XXXXXX";
    if (!mkdtemp(folder.data())) {
        program.log = "cannot write in " + cache;
        return OUT_OF_SPACE;
    }
    const int result = compile_in(program, folder, cache, command);
    for (const auto& header : program.headers) unlink((folder + "/" + header.first).c_str());
    for (const std::string& name : {program.name, std::string("scanned"), std::string("unit.cpp"), std::string("log"),
                                    std::string("output"), std::string("object.so")})
        unlink((folder + "/" + name).c_str());
    rmdir(folder.c_str());
    return result;
}

static int get_size(void* handle, const std::string Program::*text, size_t* bytes) {
    if (!handle) return INVALID_PROGRAM;
    *bytes = (static_cast<Program*>(handle)->*text).size() + 1;
    return 0;
}

static int get(void* handle, const std::string Program::*text, char* to) {
    if (!handle) return INVALID_PROGRAM;
    strcpy(to, (static_cast<Program*>(handle)->*text).c_str());
    return 0;
}

STAND_IN_API int nvrtcGetPTXSize(void* program, size_t* bytes) { return get_size(program, &Program::image, bytes); }
STAND_IN_API int nvrtcGetPTX(void* program, char* to) { return get(program, &Program::image, to); }
STAND_IN_API int nvrtcGetCUBINSize(void* program, size_t* bytes) { return get_size(program, &Program::image, bytes); }
STAND_IN_API int nvrtcGetCUBIN(void* program, char* to) { return get(program, &Program::image, to); }
STAND_IN_API int nvrtcGetProgramLogSize(void* program, size_t* bytes) { return get_size(program, &Program::log, bytes); }
STAND_IN_API int nvrtcGetProgramLog(void* program, char* to) { return get(program, &Program::log, to); }
