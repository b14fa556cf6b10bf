// Prints the public names of the Node package, one a line, from its type declarations: `Client.close`,
// `Client.close(timeout)`, `scalingo.Host.url`, `Standing=live`. Options count as parameters.

import { createRequire } from 'node:module';
import { join } from 'node:path';

const folder = process.argv[2];
const ts = createRequire(join(folder, 'package.json'))('typescript');
const entry = join(folder, 'dist/index.d.ts');
const program = ts.createProgram([entry], { module: ts.ModuleKind.Node16, target: ts.ScriptTarget.ES2022 });
const checker = program.getTypeChecker();
const names = new Set();

addModule('', checker.getSymbolAtLocation(program.getSourceFile(entry)));
console.log([...names].sort().join('\n'));

function addModule(prefix, module) {
  for (const symbol of checker.getExportsOfModule(module)) {
    addExport(prefix, symbol);
  }
}

/** Adds an exported symbol, or those of an exported namespace. */
function addExport(prefix, symbol) {
  const own = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
  if (isOptions(own.name)) {
    return;
  }
  const [declaration] = own.declarations;
  if (ts.isSourceFile(declaration)) {
    addModule(`${symbol.name}.`, own);
    return;
  }
  const ownName = `${prefix}${own.name}`;
  names.add(ownName);
  if (ts.isTypeAliasDeclaration(declaration)) {
    values(ownName, checker.getTypeAtLocation(declaration));
  } else if (ts.isFunctionDeclaration(declaration)) {
    parameters(ownName, checker.getTypeOfSymbol(own));
  } else {
    members(ownName, declaration);
    statics(ownName, declaration);
  }
}

function isOptions(name) {
  return name.endsWith('Options');
}

/** Adds the members that a class or an interface declares or inherits from another type of the package. */
function members(owner, declaration) {
  for (const member of checker.getPropertiesOfType(checker.getTypeAtLocation(declaration))) {
    const [at] = member.declarations;
    const ours = !program.isSourceFileDefaultLibrary(at.getSourceFile());
    if (!ours || member.name.startsWith('__@') || member.name.startsWith('__#') || ts.isPrivateIdentifier(at.name)) {
      continue;
    }
    const name = `${owner}.${member.name}`;
    names.add(name);
    const type = checker.getTypeOfSymbol(member);
    parameters(name, type);
    if (!type.aliasSymbol) {
      values(name, type);
    }
  }
}

/** Adds the static members of a class. */
function statics(owner, declaration) {
  const parts = ts.isClassDeclaration(declaration) ? declaration.members : [];
  for (const part of parts.filter((one) => ts.getCombinedModifierFlags(one) & ts.ModifierFlags.Static)) {
    const name = `${owner}.${part.name.text}`;
    names.add(name);
    parameters(name, checker.getTypeAtLocation(part));
  }
}

function parameters(name, type) {
  for (const signature of type.getCallSignatures()) {
    for (const parameter of signature.getParameters()) {
      const given = checker.getNonNullableType(checker.getTypeOfSymbol(parameter));
      const options = isOptions(given.symbol?.name ?? '') ? checker.getPropertiesOfType(given) : [parameter];
      for (const option of options) {
        const parameterName = `${name}(${option.name})`;
        names.add(parameterName);
        const wanted = checker.getNonNullableType(checker.getTypeOfSymbol(option));
        if (options[0] !== parameter && !wanted.aliasSymbol) {
          values(parameterName, wanted);
        }
      }
    }
  }
}

/** Adds the string values of a type, or those of the `kind` of its members. */
function values(name, type) {
  for (const one of type.isUnion() ? type.types : [type]) {
    const kind = one.getProperty?.('kind');
    const literal = kind && one.isClassOrInterface?.() !== true ? checker.getTypeOfSymbol(kind) : one;
    if (literal.isStringLiteral?.()) {
      names.add(`${name}=${literal.value}`);
    }
  }
}
