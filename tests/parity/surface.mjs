// Tells what the Node package offers, one name a line, read from its declarations by the compiler:
// `Client.close`, `Client.close(timeout)`, `Standing=live`. Options count as parameters.

import { createRequire } from 'node:module';
import { join } from 'node:path';

const folder = process.argv[2];
const ts = createRequire(join(folder, 'package.json'))('typescript');
const entry = join(folder, 'dist/index.d.ts');
const program = ts.createProgram([entry], { module: ts.ModuleKind.Node16, target: ts.ScriptTarget.ES2022 });
const checker = program.getTypeChecker();
const names = new Set();

for (const symbol of checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(entry)))) {
  const own = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
  if (isOptions(own.name)) {
    continue;
  }
  names.add(own.name);
  const [declaration] = own.declarations;
  if (ts.isTypeAliasDeclaration(declaration)) {
    values(own.name, checker.getTypeAtLocation(declaration));
  } else if (ts.isFunctionDeclaration(declaration)) {
    parameters(own.name, checker.getTypeOfSymbol(own));
  } else {
    members(own.name, declaration);
    statics(own, declaration);
  }
}
console.log([...names].sort().join('\n'));

function isOptions(name) {
  return name.endsWith('Options');
}

/** The members that a class or an interface declares itself or inherits from one of ours. */
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

/** What a class offers by itself. */
function statics(own, declaration) {
  const parts = ts.isClassDeclaration(declaration) ? declaration.members : [];
  for (const part of parts.filter((one) => ts.getCombinedModifierFlags(one) & ts.ModifierFlags.Static)) {
    const name = `${own.name}.${part.name.text}`;
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
        const told = `${name}(${option.name})`;
        names.add(told);
        const wanted = checker.getNonNullableType(checker.getTypeOfSymbol(option));
        if (options[0] !== parameter && !wanted.aliasSymbol) {
          values(told, wanted);
        }
      }
    }
  }
}

/** The texts that a type may be, or that the `kind` of its members may be. */
function values(name, type) {
  for (const one of type.isUnion() ? type.types : [type]) {
    const kind = one.getProperty?.('kind');
    const literal = kind && one.isClassOrInterface?.() !== true ? checker.getTypeOfSymbol(kind) : one;
    if (literal.isStringLiteral?.()) {
      names.add(`${name}=${literal.value}`);
    }
  }
}
